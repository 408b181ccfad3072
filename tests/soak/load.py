"""Matrix clients: they upload, download, ask for thumbnails, hang up, read slowly, and delete.

Each is a thread, for a client of one's own is blocking and simple.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import requests
from PIL import Image

from tests.servers.synapse import Client, Synapse
from tests.soak.record import Record, Stored

CLIENTS = 6
CLIENTS_OF_NEIGHBOUR = 2
#: Bounds of a soak, however long it is.
MOST_FILES = 20_000
MOST_BYTES = 8 * 10**9
LARGEST_BYTES = 6_000_000
#: A slow reader takes this much at a time, this often.
SLOW_BYTES = 4096
SLOW_SECONDS = 0.02
SLOW_READS = 200
#: Between two actions of a client.
PAUSE_SECONDS = 0.1
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class DeletedMeanwhileError(OSError):
    """A download failed of a media that another client deletes."""


class Load:
    """All clients.

    :param token: of the administrator as whom they all sign in.
    :param until: when they end, as of :func:`time.monotonic`.
    :param seed: of what they do; another one for other files.
    :param may_fail: whether an action that fails is only counted, or must not be.
    """

    def __init__(
        self,
        synapse: Synapse,
        token: str,
        record: Record,
        until: float,
        clients: int = CLIENTS,
        *,
        seed: int = 0,
        may_fail: bool = True,
    ) -> None:
        self._synapse = synapse
        self._token = token
        self._record = record
        self._until = until
        self._clients = clients
        self._seed = seed
        self._may_fail = may_fail
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Let them begin."""
        for number in range(self._clients):
            thread = threading.Thread(target=self._be_a_client, args=(number,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Blocking: returns when each client has ended what it was doing."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _be_a_client(self, number: int) -> None:
        random_ = random.Random(1000 * self._seed + number)
        client = self._synapse.client(self._token)
        actions: dict[str, Callable[[Client, random.Random], bool]] = {
            "upload": self._upload,
            "download": self._download,
            "thumbnail": self._thumbnail,
            "hang up": self._hang_up,
            "slow reader": self._read_slowly,
            "deletion": self._delete,
        }
        while not self._stop.is_set() and time.monotonic() < self._until:
            (what,) = random_.choices(list(actions), (30, 40, 12, 10, 8, 1))
            try:
                done = actions[what](client, random_)
            except (requests.RequestException, OSError) as error:
                self._record.fail(f"{what}: {kind(error)}")
                if not self._may_fail and not isinstance(error, DeletedMeanwhileError):
                    self._record.must_not_be(f"{what} failed: {kind(error)}: {error}")
                self._stop.wait(0.2)  # a server that is down is not hammered
                continue
            if done and what not in ("upload", "deletion"):
                self._record.count(what)
            self._stop.wait(random_.expovariate(1 / PAUSE_SECONDS))

    def _upload(self, client: Client, random_: random.Random) -> bool:
        have = self._record.as_mapping()
        if have["stored_files"] >= MOST_FILES or have["stored_bytes"] >= MOST_BYTES:
            return self._download(client, random_)
        is_image = random_.random() < 0.2
        content = image(random_) if is_image else blob(random_)
        content_type = "image/png" if is_image else "application/octet-stream"
        store(client, self._record, content, content_type)
        return True

    def _download(self, client: Client, random_: random.Random) -> bool:
        media = self._record.one(random_)
        if media is None:
            return False
        with self._not_missing(media):
            content = client.download(media.mxc)
        if not media.same(content):
            self._record.must_not_be(f"{media.mxc} came back whole, but with other bytes")
        return True

    def _thumbnail(self, client: Client, random_: random.Random) -> bool:
        media = self._record.one(random_)
        if media is None or not media.is_image:
            return False
        with self._not_missing(media):
            content = client.thumbnail(media.mxc, 96, 96, "crop")
        try:
            Image.open(io.BytesIO(content)).load()
        except OSError:
            self._record.must_not_be(f"the thumbnail of {media.mxc} is no picture")
        return True

    def _hang_up(self, client: Client, random_: random.Random) -> bool:
        media = self._record.one(random_)
        if media is None:
            return False
        with self._begin(media) as connection:
            connection.recv(random_.randrange(1, 100_000))
            # A reset, as of a phone that lost its network.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return True

    def _read_slowly(self, client: Client, random_: random.Random) -> bool:
        """Take a part of a file, slowly, and leave; the shorter ones come to their end."""
        media = self._record.one(random_)
        if media is None:
            return False
        with self._begin(media) as connection:
            for _ in range(SLOW_READS):
                if self._stop.wait(SLOW_SECONDS) or not connection.recv(SLOW_BYTES):
                    break
        return True

    def _delete(self, client: Client, random_: random.Random) -> bool:
        media = self._record.one(random_)
        if media is None or not self._record.forget(media):
            return False
        client.delete(media.mxc)
        self._record.delete(media)
        return True

    @contextlib.contextmanager
    def _not_missing(self, media: Stored) -> Iterator[None]:
        """Synapse may fail now and then, but may not say that a media is not there."""
        try:
            yield
        except requests.RequestException as error:
            if not self._record.is_stored(media):
                raise DeletedMeanwhileError(media.mxc) from error
            if kind(error) == "HTTP 404":
                self._record.must_not_be(f"Synapse says that there is no {media.mxc}: {error}")
            raise

    @contextlib.contextmanager
    def _begin(self, media: Stored):
        """A connection on which a download has begun."""
        where = urlsplit(self._synapse.url)
        path = media.mxc.removeprefix("mxc://")
        request = (
            f"GET /_matrix/client/v1/media/download/{path} HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"Authorization: Bearer {self._token}\r\nConnection: close\r\n\r\n"
        )
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES)
            connection.settimeout(30)
            connection.connect((where.hostname, where.port))
            connection.sendall(request.encode())
            yield connection


def store(
    client: Client, record: Record, content: bytes, content_type: str = "application/octet-stream"
) -> None:
    """Upload, and note that Synapse has said that it has it."""
    digest = hashlib.sha256(content).hexdigest()
    mxc = client.upload(content, content_type)
    record.store(Stored(mxc, len(content), digest, content_type == "image/png"))


def kind(error: Exception) -> str:
    """What to count an error under."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code}"
    return type(error).__name__


def blob(random_: random.Random) -> bytes:
    """Around 60 KB, now and then megabytes: those are stored in segments."""
    if random_.random() < 0.04:
        return random_.randbytes(random_.randrange(10**6, LARGEST_BYTES))
    size = min(LARGEST_BYTES, int(random_.lognormvariate(10.6, 1.3)))
    return random_.randbytes(max(1, size))


def image(random_: random.Random) -> bytes:
    """A small picture of noise."""
    pixels = Image.frombytes("RGB", (120, 90), random_.randbytes(120 * 90 * 3))
    png = io.BytesIO()
    pixels.save(png, "PNG")
    return png.getvalue()
