"""What the driver programs have in common; needs nothing but Python.

A driver runs in its peer's own environment. It reads a job from the file named
on its command line, does it, and prints what it took as its last line.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """What is to be done.

    :param operation: ``PUT``, ``GET`` or ``HEAD``.
    :param storage_url: of the account.
    :param names: of the objects; each begins with its content's MD5, and the
        file of that name in ``folder`` is its content.
    :param sizes: bytes by MD5.
    :param check: afterwards, look at the bytes of so many objects once more.
    :param mirrors: further containers of the account, which hold the same objects.
    """

    operation: str
    storage_url: str
    container: str
    names: list[str]
    folder: str
    sizes: dict[str, int]
    concurrency: int
    check: int
    ca: str | None = None
    mirrors: tuple[str, ...] = ()

    def path(self, name: str) -> str:
        """The file with an object's content."""
        return str(Path(self.folder, name))

    def read(self, name: str) -> bytes:
        """An object's content."""
        return Path(self.path(name)).read_bytes()

    def check_body(self, name: str, body: bytes) -> None:
        """:raises ValueError: if these bytes are not the object's."""
        if hashlib.md5(body).hexdigest() != name[:32]:
            raise ValueError(f"{name} came with other bytes")

    def check_size(self, name: str, size: int) -> None:
        """:raises ValueError: if the object does not have so many bytes."""
        if size != self.sizes[name[:32]]:
            raise ValueError(f"{name} has {size} bytes")


def read_job() -> Job:
    """The job named on the command line."""
    return Job(**json.loads(Path(sys.argv[1]).read_text()))


class Clock:
    """Wall and CPU time from its making on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), _cpu()

    def tell(self, count: int) -> None:
        """Print what it took, for so many objects."""
        wall, cpu = time.monotonic() - self._wall, _cpu() - self._cpu
        print(json.dumps({"seconds": wall, "cpu": cpu, "count": count}), flush=True)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def in_threads(job: Job, connect: Callable[[], Callable[[str], None]]) -> None:
    """Do a job with threads, as blocking clients do.

    :param connect: called in each thread; returns what handles one object.
    """
    names = iter(job.names)
    turn = threading.Lock()
    errors: list[BaseException] = []
    ready = threading.Barrier(job.concurrency + 1)

    def work() -> None:
        try:
            handle = connect()
            ready.wait()
            while not errors:
                with turn:
                    name = next(names, None)
                if name is None:
                    return
                handle(name)
        except BaseException as error:
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=work) for _ in range(job.concurrency)]
    for thread in threads:
        thread.start()
    ready.wait()
    clock = Clock()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    clock.tell(len(job.names))
