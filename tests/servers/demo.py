"""``python -m tests.servers.demo``: Keystone, Swift and Synapse with our module, at work.

A user uploads media, Swift gets a copy, the script empties the local store,
and every byte comes back through Synapse. Started by ``scripts/demo``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import requests
from PIL import Image

from tests.servers import process
from tests.servers.demo_guide import print_guide
from tests.servers.demo_place import CONTAINER, USER, Place, everything_running
from tests.servers.narration import detail, size, step
from tests.servers.synapse import Client

#: What the script is told to offload: media not accessed for this long.
UNUSED_SECONDS = 1

THUMBNAIL = (320, 240)


@dataclass(frozen=True)
class Upload:
    """One thing that was uploaded, and where Synapse says it is."""

    what: str
    content: bytes
    mxc: str


class DifferenceError(Exception):
    """Something is not as it must be; the message says what."""


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
                f"\nAll is well: {count} downloads were the same, byte for byte, with nothing "
                f"on the local disk. It took {time.monotonic() - began:.0f} s."
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
    uploads = _upload(client)
    thumbnail = client.thumbnail(uploads[0].mxc, *THUMBNAIL)
    files = _show_objects(place)
    _offload(place)
    _show_empty_store(place, files)
    step("Downloading everything again through Synapse, which now has it from Swift alone")
    for upload in uploads:
        _compare(upload.what, upload.content, client.download(upload.mxc))
    again = client.thumbnail(uploads[0].mxc, *THUMBNAIL)
    _compare(f"the image's thumbnail {THUMBNAIL[0]}x{THUMBNAIL[1]}", thumbnail, again)
    return len(uploads) + 1


def _upload(client: Client) -> list[Upload]:
    step(f"Uploading media as the Matrix user {USER}")
    uploads = []
    for what, content_type, content in (
        ("an image", "image/png", _image()),
        ("a voice message", "audio/ogg", random.randbytes(300_000)),
        ("a film", "video/mp4", random.randbytes(30_000_000)),
        ("a note", "text/plain", b"A note of one line.\n"),
        ("an empty file", "application/octet-stream", b""),
    ):
        mxc = client.upload(content, content_type)
        uploads.append(Upload(what, content, mxc))
        detail(f"{what}, {size(len(content))}: {mxc}")
    return uploads


def _image() -> bytes:
    """Noise over a gradient: large enough for each of Synapse's thumbnails."""
    noise = Image.effect_noise((1280, 960), 40)
    gradient = Image.linear_gradient("L").resize(noise.size)
    png = io.BytesIO()
    Image.merge("RGB", (noise, gradient, gradient.rotate(180))).save(png, "PNG")
    return png.getvalue()


def _show_objects(place: Place) -> list[str]:
    """:returns: the media store's files, relative to it; each is in Swift with the same MD5."""
    step("What Swift holds now: each file of Synapse's media store, with the same MD5")
    objects = _list_objects(place)
    files = _media_files(place)
    for name in files:
        content = (place.synapse.media_store / name).read_bytes()
        md5 = hashlib.md5(content).hexdigest()
        if objects.get(name) != md5:
            raise DifferenceError(
                f"{name} has the MD5 {md5} on disk, and in Swift {objects.get(name)}"
            )
        detail(f"{md5}  {size(len(content)):>8}  {name}")
    return files


def _list_objects(place: Place) -> dict[str, str]:
    """:returns: MD5 by object name, as Swift lists them."""
    url = f"{place.swift.account_url(place.account.project_id)}/{CONTAINER}"
    headers = {"X-Auth-Token": place.keystone.token(place.account)}
    with process.local_session() as http:
        answer = http.get(url, params={"format": "json"}, headers=headers, timeout=30)
    answer.raise_for_status()
    return {entry["name"]: entry["hash"] for entry in answer.json()}


def _media_files(place: Place) -> list[str]:
    store = place.synapse.media_store
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file())


def _offload(place: Place) -> None:
    step(f"Removing local media that were not used for {UNUSED_SECONDS} s, as a timer would do")
    time.sleep(UNUSED_SECONDS + 0.5)  # real time has to pass for real media to get old
    work = place.folder / "swift_media_upload"
    work.mkdir()
    config = ["--homeserver-config-path", str(place.synapse.config_path)]
    store = str(place.synapse.media_store)
    _run_script(place, work, ["update", store, f"{UNUSED_SECONDS}s", *config])
    _run_script(place, work, ["upload", store, "--delete", *config])


def _run_script(place: Place, work: Path, arguments: list[str]) -> None:
    command = ["swift_media_upload", "--no-progress", *arguments]
    detail("$ " + shlex.join(command))
    result = subprocess.run(
        [*process.script(command[0]), *command[1:]],
        cwd=work,
        env=process.child_environment({"OS_CLIENT_CONFIG_FILE": str(place.clouds_yaml)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    for line in result.stdout.splitlines():
        detail("  " + line)
    if result.returncode:
        raise DifferenceError(f"swift_media_upload ended with status {result.returncode}")


def _show_empty_store(place: Place, files: list[str]) -> None:
    left = _media_files(place)
    if left:
        raise DifferenceError(f"still in the local media store: {', '.join(left)}")
    detail(f"the local media store had {len(files)} files, and now has none")


def _compare(what: str, wanted: bytes, got: bytes) -> None:
    if got != wanted:
        raise DifferenceError(f"{what} came back with other bytes")
    detail(f"{what}: {size(len(got))}, each byte as before")


if __name__ == "__main__":
    sys.exit(main())
