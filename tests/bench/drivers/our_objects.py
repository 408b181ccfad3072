"""Objects by our own client, as the script uses it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from swift_provider.client import FileSource, Patience, Store, open_store
from swift_provider.config import parse_settings
from swift_provider.offload.command.run_job import run as run_program
from tests.bench.drivers.job import Clock, Job, read_job


@implementer(IConsumer)
class Counting:
    """Takes a body; the client itself has checked its MD5 when it is delivered."""

    size = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.size += len(data)


class Hashing(Counting):
    """For the check afterwards: hashes on its own."""

    def __init__(self) -> None:
        self.md5 = hashlib.md5()

    def write(self, data: bytes) -> None:
        super().write(data)
        self.md5.update(data)


class Operations:
    """What can be done with one object."""

    def __init__(self, store: Store, job: Job) -> None:
        self._store = store
        self._job = job

    async def put(self, name: str) -> None:
        with FileSource.open(self._job.path(name)) as source:
            await self._store.put(name, source)

    async def get(self, name: str) -> None:
        consumer = Counting()
        await self._deliver(name, consumer)
        self._job.check_size(name, consumer.size)

    async def head(self, name: str) -> None:
        info = await self._store.head(name)
        self._job.check_size(name, info.size or 0)

    async def check(self, name: str) -> None:
        consumer = Hashing()
        await self._deliver(name, consumer)
        if consumer.md5.hexdigest() != name[:32]:
            raise ValueError(f"{name} came with other bytes")

    async def _deliver(self, name: str, consumer: Counting) -> None:
        download = await self._store.get(name)
        try:
            await download.deliver(consumer)
        finally:
            download.abandon()


async def run(job: Job) -> None:
    options: dict[str, Any] = {
        "container": job.container,
        "cloud": "stub",
        "storage_url": job.storage_url,
        "threadpool_size": job.concurrency,
        "segment_size": "5G",
        "cacert": job.ca,
    }
    options["mirrors"] = [
        {**options, "container": container, "name": container} for container in job.mirrors
    ]
    store = open_store(
        reactor, parse_settings(options), patience=Patience.SCRIPT, shares_reactor=False
    )
    operations = Operations(store, job)
    handle = {"PUT": operations.put, "GET": operations.get, "HEAD": operations.head}[job.operation]

    async def worker(names: Iterator[str]) -> None:
        for name in names:
            await handle(name)

    names = iter(job.names)
    clock = Clock()
    workers = [Deferred.fromCoroutine(worker(names)) for _ in range(job.concurrency)]
    await gatherResults(workers)
    clock.tell(len(job.names))
    if job.operation == "GET":
        for name in job.names[: job.check]:
            await operations.check(name)
    await store.close()


def main() -> None:
    job = read_job()
    run_program(reactor, lambda: run(job), stop=reactor.stop, last_words=lambda: None, note=print)


if __name__ == "__main__":
    main()
