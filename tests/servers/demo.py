"""``python -m tests.servers.demo``: Keystone, Swift and Synapse with our module, at work.

A user uploads more media than may be on Synapse's disk. Swift gets a copy of each, the
module keeps the disk within its budget, and every byte comes back through Synapse.
Started by ``scripts/demo``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import requests
from PIL import Image

from tests.servers import process
from tests.servers.demo_disk import (
    DifferenceError,
    media_files,
    run_script,
    set_access_back,
    set_writing_back,
    wait_for_budget,
)
from tests.servers.demo_guide import print_guide
from tests.servers.demo_place import CONTAINER, USER, Place, everything_running
from tests.servers.narration import detail, size, step
from tests.servers.synapse import Client

#: Three times the budget.
FILMS, FILM_BYTES = 6, 10_000_000

THUMBNAIL = (320, 240)


@dataclass(frozen=True)
class Upload:
    """One thing that was uploaded, and where Synapse says it is."""

    what: str
    content: bytes
    mxc: str

    @property
    def path(self) -> str:
        """Of its file in the media store, and of its object in Swift."""
        media_id = self.mxc.rpartition("/")[2]
        return f"local_content/{media_id[:2]}/{media_id[2:4]}/{media_id[4:]}"


_FAILURES = (DifferenceError, process.ServiceError, requests.RequestException)


def main(argv: Sequence[str] | None = None) -> int:
    """:returns: 0 if everything came back as it was; 1 if not; 130 or 143 if interrupted."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument(
        "--keep-running",
        action="store_true",
        help="leave the servers up until Ctrl-C, and print how to use them",
    )
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _on_sigterm)
    # Shells without job control start what is to run beside them with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()
    try:
        with everything_running() as place, _log_on_failure(place):
            count = _show(place)
            print(
                f"\nAll is well: {count} downloads were the same, byte for byte, and "
                f"Synapse's disk is within its budget. It took {time.monotonic() - began:.0f} s."
            )
            if options.keep_running:
                print_guide(place)
                with contextlib.suppress(KeyboardInterrupt):
                    signal.pause()
    except _FAILURES as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; all servers are down.")
        return 130
    return 0


def _on_sigterm(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


@contextlib.contextmanager
def _log_on_failure(place: Place) -> Iterator[None]:
    try:
        yield
    except _FAILURES:
        log = place.synapse.log
        print(f"\nThe end of Synapse's log:\n{process.log_tail(log)}", file=sys.stderr)
        raise


def _show(place: Place) -> int:
    """:returns: the number of downloads that were compared."""
    client = place.synapse.client(place.token)
    uploads, thumbnail = _upload(place, client)
    step("The module notices that the disk is over its budget, and makes room")
    wait_for_budget(place, stored=len(_list_objects(place)))
    _show_objects(place, uploads)
    step("Downloading everything again through Synapse")
    for upload in uploads:
        _compare(upload.what, upload.content, client.download(upload.mxc))
    again = client.thumbnail(uploads[0].mxc, *THUMBNAIL)
    _compare(f"the image's thumbnail {THUMBNAIL[0]}x{THUMBNAIL[1]}", thumbnail, again)
    step("What the script says about it")
    run_script(place, "status")
    run_script(place, "verify")
    return len(uploads) + 1


def _upload(place: Place, client: Client) -> tuple[list[Upload], bytes]:
    """:returns: what was uploaded, and a thumbnail of the first, which is an image."""
    step(f"Uploading media as the Matrix user {USER}")
    detail("What was accessed or written in the last ten minutes would stay on the disk, so the")
    detail("demo sets both times back by an hour, in Synapse's database and on the disk.")
    uploads: list[Upload] = []
    thumbnail = b""
    for what, content_type, content in (
        ("an image", "image/png", _image()),
        ("a voice message", "audio/ogg", random.randbytes(300_000)),
        ("a note", "text/plain", b"A note of one line.\n"),
        ("an empty file", "application/octet-stream", b""),
        *((f"film {n + 1}", "video/mp4", random.randbytes(FILM_BYTES)) for n in range(FILMS)),
    ):
        mxc = client.upload(content, content_type)
        set_access_back(place)
        set_writing_back(place)
        uploads.append(Upload(what, content, mxc))
        thumbnail = thumbnail or client.thumbnail(mxc, *THUMBNAIL)
        detail(f"{what}, {size(len(content))}: {mxc}")
    detail(f"{size(sum(len(upload.content) for upload in uploads))} in all, and thumbnails")
    return uploads, thumbnail


def _image() -> bytes:
    """Noise over a gradient: large enough for each of Synapse's thumbnails."""
    noise = Image.effect_noise((1280, 960), 40)
    gradient = Image.linear_gradient("L").resize(noise.size)
    png = io.BytesIO()
    Image.merge("RGB", (noise, gradient, gradient.rotate(180))).save(png, "PNG")
    return png.getvalue()


def _show_objects(place: Place, uploads: list[Upload]) -> None:
    """Each upload is in Swift, and no file is on the disk alone."""
    step("What Swift holds now: each upload, with the same MD5; and each thumbnail")
    objects = _list_objects(place)
    on_disk = set(media_files(place))
    lost = on_disk - objects.keys()
    if lost:
        raise DifferenceError(f"on the disk and not in Swift: {', '.join(lost)}")
    md5s = {upload.path: hashlib.md5(upload.content).hexdigest() for upload in uploads}
    for name, md5 in md5s.items():
        if objects.get(name) != md5:
            raise DifferenceError(f"{name} had the MD5 {md5}, and has in Swift {objects.get(name)}")
    for name, md5 in objects.items():
        where = "Swift and disk" if name in on_disk else "Swift"
        detail(f"{md5}  {where:14}  {name}")


def _list_objects(place: Place) -> dict[str, str]:
    """:returns: MD5 by object name, as Swift lists them."""
    url = f"{place.swift.account_url(place.account.project_id)}/{CONTAINER}"
    headers = {"X-Auth-Token": place.keystone.token(place.account)}
    with process.local_session() as http:
        answer = http.get(url, params={"format": "json"}, headers=headers, timeout=30)
    answer.raise_for_status()
    return {entry["name"]: entry["hash"] for entry in answer.json()}


def _compare(what: str, wanted: bytes, got: bytes) -> None:
    if got != wanted:
        raise DifferenceError(f"{what} came back with other bytes")
    detail(f"{what}: {size(len(got))}, each byte as before")


if __name__ == "__main__":
    sys.exit(main())
