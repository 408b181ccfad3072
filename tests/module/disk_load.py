"""Matrix clients that fill the workers' disks, and know what they have uploaded.

Each is a thread. What Synapse has accepted has to be there at the end, through each worker.
"""

from __future__ import annotations

import hashlib
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import requests
from PIL import Image

from tests.servers.synapse import Client
from tests.servers.synapse_workers import MediaWorker

SMALLEST, LARGEST = 20_000, 500_000
#: One in so many uploads is a picture.
PICTURES = 12
READERS = 3
#: Between two downloads of one reader.
READ_SECONDS = 0.25
#: After a request that failed.
PAUSE_SECONDS = 0.2
#: How many threads compare at the end.
COMPARERS = 6


@dataclass(frozen=True)
class Uploaded:
    """A media that Synapse has accepted."""

    uri: str
    sha256: str
    is_picture: bool


class Load:
    """All clients.

    :param workers: each gets uploads; each is asked for all media.
    :param bytes_per_second: of all uploads together, at most.
    """

    def __init__(self, workers: list[MediaWorker], token: str, bytes_per_second: float) -> None:
        self._workers = workers
        self._token = token
        self._rate = bytes_per_second / len(workers)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.uploaded: list[Uploaded] = []
        self.bytes = 0
        #: What must not be.
        self.wrong: list[str] = []
        #: Requests that failed, by what they were and how they failed.
        self.failed: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    def start(self) -> None:
        """Let them begin."""
        for number, worker in enumerate(self._workers):
            self._begin(self._be_an_uploader, random.Random(number), worker)
        for number in range(READERS):
            self._begin(self._be_a_reader, random.Random(100 + number))

    def _begin(self, function: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """Return when each client has ended what it was doing. Blocking."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _be_an_uploader(self, random_: random.Random, worker: MediaWorker) -> None:
        client = worker.client(self._token)
        due = time.monotonic()
        number = 0
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            number += 1
            is_picture = number % PICTURES == 0
            content = _picture(random_) if is_picture else _bytes(random_)
            # Who was held up does not make up for it.
            due = max(due, time.monotonic() - 1) + len(content) / self._rate
            kind = "image/png" if is_picture else "application/octet-stream"
            uri = self._try("upload", client.upload, content, kind)
            if uri is not None:
                one = Uploaded(uri, hashlib.sha256(content).hexdigest(), is_picture)
                with self._lock:
                    self.uploaded.append(one)
                    self.bytes += len(content)

    def _be_a_reader(self, random_: random.Random) -> None:
        clients = [worker.client(self._token) for worker in self._workers]
        while not self._stop.wait(READ_SECONDS):
            with self._lock:
                some = list(self.uploaded)
            if not some:
                continue
            one, client = random_.choice(some), random_.choice(clients)
            if one.is_picture and random_.random() < 0.7:
                size = random_.choice((96, 200, 320))
                self._try("thumbnail", client.thumbnail, one.uri, size, size)
                continue
            content = self._try("download", client.download, one.uri)
            if content is not None and hashlib.sha256(content).hexdigest() != one.sha256:
                self.wrong.append(f"{one.uri}: other bytes")

    def _try(self, what: str, call: Callable[..., object], *arguments: object) -> object:
        try:
            result = call(*arguments)
        except requests.HTTPError as error:
            self.failed[f"{what}: {error.response.status_code}"] += 1
        except requests.RequestException as error:
            self.failed[f"{what}: {type(error).__name__}"] += 1
        else:
            self.done[what] += 1
            return result
        self._stop.wait(PAUSE_SECONDS)
        return None

    def summary(self) -> str:
        """The figures, for a person."""
        return (
            f"uploaded {len(self.uploaded)} ({self.bytes / 1e6:.0f} MB), done {dict(self.done)}, "
            f"failed {dict(self.failed)}"
        )

    def compare(self) -> list[str]:
        """Download each media through each worker: what is wrong. Blocking."""
        with ThreadPoolExecutor(COMPARERS) as pool:
            parts = [self.uploaded[start::COMPARERS] for start in range(COMPARERS)]
            return [wrong for part in pool.map(self._compare, parts) for wrong in part]

    def _compare(self, part: list[Uploaded]) -> list[str]:
        clients: list[tuple[str, Client]] = [
            (worker.name, worker.client(self._token)) for worker in self._workers
        ]
        wrong = []
        for one in part:
            for name, client in clients:
                try:
                    content = client.download(one.uri)
                except requests.RequestException as error:
                    wrong.append(f"{one.uri} through {name}: {error}")
                else:
                    if hashlib.sha256(content).hexdigest() != one.sha256:
                        wrong.append(f"{one.uri} through {name}: other bytes")
        return wrong


def _bytes(random_: random.Random) -> bytes:
    return random_.randbytes(random_.randint(SMALLEST, LARGEST))


def _picture(random_: random.Random) -> bytes:
    """A PNG of a few hundred KB: noise on a picture that is enlarged."""
    size = random_.randint(80, 220)
    image = Image.frombytes("RGB", (size, size), random_.randbytes(3 * size * size))
    file = io.BytesIO()
    image.resize((640, 480), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()
