"""A homeserver whose media workers keep their disks within a budget, with short times.

Real Synapse, PostgreSQL, Redis and Keystone, and a real Swift behind a fault proxy.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.module.homeservers import FORBIDDEN, there
from tests.module.storage import Storage
from tests.servers import process
from tests.servers.fault_proxy import FaultProxy
from tests.servers.postgres import Postgres
from tests.servers.redis import running_redis
from tests.servers.synapse_workers import MainProcess, MediaWorker

if TYPE_CHECKING:
    from tests.module.conftest import MakeEntry

MODULE = "swift_provider.module"
#: What was accessed more recently stays; Synapse writes down accesses each half second.
QUIET_SECONDS = 3.0
LOOK_SECONDS = 1.0
#: What Synapse says of uploads and downloads during an :data:`OUTAGE`.
REFUSED = r"matrix_errors ERROR \S+ Cannot (store|fetch) .* \(HTTP 503, transaction canned\)"
_ERROR = r" (ERROR|CRITICAL) |local_disk: Traceback"
#: What Synapse says when it stops, or the main process has been killed.
_REDIS_IS_GONE = "background_process_metrics ERROR send-cmd"
#: Content and thumbnails of media, as ``max_size`` counts them.
_ROOTS = ("local_content", "local_thumbnails", "remote_content", "remote_thumbnail")
#: How many lines of the log a failure shows.
LINES = 40
_CHILD = "swift_provider.offload.keeper"
_IMPATIENT_CHILD = "tests.module.impatient_child"


def short_times(**schedule: Any) -> dict[str, dict[str, Any]]:
    """The constants of the module, and of Synapse, that a test cannot wait for.

    :param schedule: further ones of :mod:`keeper_schedule`.
    """
    return {
        f"{MODULE}.disk_keeper": {"START_SECONDS": 0.5, "LOOK_SECONDS": LOOK_SECONDS},
        f"{MODULE}.keeper_site": {"QUIET_SECONDS": QUIET_SECONDS},
        f"{MODULE}.keeper_schedule": {
            "REST_SECONDS": 0.3,
            "RETRY_SECONDS": [1.0],
            "BUSY_SECONDS": 1.0,
            "REPAIR_SECONDS": 3.0,
            **schedule,
        },
        "synapse.media.media_repository": {"UPDATE_RECENTLY_ACCESSED_TS": 0.5},
    }


class MediaDisk:
    """The files of media on one disk, read without the product. A temporary file is none."""

    def __init__(self, media_store: Path) -> None:
        self.media_store = media_store

    def files(self) -> dict[tuple[str, int], int]:
        """The bytes that each takes, by its path and inode."""
        return dict(self._files())

    def _files(self) -> Iterator[tuple[tuple[str, int], int]]:
        for root in _ROOTS:
            for folder, _, names in os.walk(self.media_store / root):
                for name in names:
                    path = os.path.join(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        status = os.lstat(path)
                        if "~pulling-back-" not in name:
                            yield (path, status.st_ino), status.st_blocks * 512

    @property
    def taken(self) -> int:
        """The bytes of all of them."""
        return sum(self.files().values())


@dataclass
class DiskPlace:
    """:ivar disks: one that all workers share, or one for each."""

    homeserver: MainProcess
    workers: list[MediaWorker]
    disks: list[MediaDisk]
    proxy: FaultProxy
    storage: Storage
    container: str
    token: str = ""

    def start(self) -> None:
        """Start all processes. Blocking."""
        self.homeserver.start()
        self.start_workers()
        if not self.token:
            self.token = self.homeserver.register("admin", admin=True)

    def start_workers(self) -> None:
        """Start all workers at once. Blocking."""
        waiting = [worker.begin() for worker in self.workers]
        for wait in waiting:
            wait()

    def stop(self) -> None:
        """Stop all processes. Blocking."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(MediaWorker.stop, self.workers))
        self.homeserver.stop()

    def logs(self) -> str:
        """All workers' lines so far."""
        return "".join(worker.log.read_text() for worker in self.workers)

    def lines(self, pattern: str) -> list[str]:
        """Those in which a pattern is found."""
        return [line for line in self.logs().splitlines() if re.search(pattern, line)]

    def children(self) -> dict[int, int]:
        """The process numbers of the keeper's children that run now, and of their workers."""
        pids = {worker.pid for worker in self.workers}
        return {child: parent for child, parent in self._children() if parent in pids}

    def strays(self) -> list[int]:
        """Children that have outlived their worker."""
        pids = {worker.pid for worker in self.workers}
        return [child for child, parent in self._children() if parent not in pids]

    def _children(self) -> Iterator[tuple[int, int]]:
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                command = Path(entry.path, "cmdline").read_text().split("\0")
                folder = Path(os.readlink(f"{entry.path}/cwd"))
                ours = self.homeserver.folder in folder.parents
                if ours and (_CHILD in command or _IMPATIENT_CHILD in command):
                    status = Path(entry.path, "stat").read_text()
                    yield int(entry.name), int(status.rsplit(")", 1)[1].split()[1])

    def wait(self, true: Callable[[], Any], what: str, seconds: float = 90.0) -> None:
        """Wait until a condition is true. Blocking.

        :param what: says what was waited for.
        """
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                last = "\n".join(self.lines("local_disk")[-LINES:])
                pytest.fail(f"{what}: not after {seconds:.0f} s. The last lines:\n{last}")
            time.sleep(process.POLL_SECONDS)

    def check_logs(self, *expected: str) -> None:
        """No complaint about log contexts, no ERROR, and no traceback of a child.

        :param expected: patterns of errors that the test has caused.
        """
        for worker in self.workers:
            lines = worker.log.read_text().splitlines()
            bad = [
                line for line in lines if re.search(" (ERROR|CRITICAL) |local_disk: Trace", line)
            ]
            known = (*expected, _REDIS_IS_GONE)
            bad = [line for line in bad if not any(re.search(one, line) for one in known)]
            bad += [line for line in lines if FORBIDDEN.search(line)]
            assert not bad, "\n".join(bad)
        main = self.homeserver.log.read_text()
        assert "local_disk" not in main, "only workers have media"


@dataclass(frozen=True)
class Services:
    """What a place is made of."""

    folder: Path
    entry: MakeEntry
    storage: Storage
    postgres: Postgres

    @contextlib.asynccontextmanager
    async def running(
        self,
        local_disk: dict[str, Any],
        *,
        workers: int = 3,
        shared: bool = False,
        waits: bool = True,
        stores: list[Path] | None = None,
        times: dict[str, dict[str, Any]] | None = None,
        **config: Any,
    ) -> AsyncIterator[DiskPlace]:
        """A homeserver, until the end of the block. The reactor goes on meanwhile.

        :param shared: one disk for all workers, instead of one each.
        :param waits: whether Synapse waits for uploads to Swift.
        :param stores: the workers' media stores; ``None`` for folders of their own.
        :param times: constants; ``None`` for :func:`short_times`.
        :param config: further top-level settings of Synapse.
        """
        from twisted.internet import reactor  # pytest-twisted chooses it

        mark = uuid4().hex[:8]
        host, port = self.storage.url.split("/")[2].split(":")
        proxy = FaultProxy(reactor, host, int(port))
        await proxy.start()
        container = f"{mark}-disk"
        await there(self.storage.make, container)
        via = {"storage_url": proxy.url_for(self.storage.url)}
        made = self.entry(container, waits=waits, local_disk=local_disk, **via)
        module = {"module": "tests.module.impatient.Impatient", "config": times or short_times()}
        names = tuple(f"media{number}" for number in range(1, workers + 1))
        with contextlib.ExitStack() as stack:
            redis = await there(stack.enter_context, running_redis(self.folder / "redis"))
            database = await there(self.postgres.create_database, f"synapse{mark}")
            homeserver = MainProcess(
                self.folder / "synapse",
                names,
                redis,
                database=database,
                media_storage_providers=[made],
                log_contexts=True,
                config={"modules": [module], **config},
            )
            if stores is None:
                one = self.folder / "media_store"
                stores = [one if shared else self.folder / name / "media_store" for name in names]
            place = DiskPlace(
                homeserver,
                [
                    MediaWorker(homeserver, name, store)
                    for name, store in zip(names, stores, strict=True)
                ],
                [MediaDisk(store) for store in dict.fromkeys(stores)],
                proxy,
                self.storage,
                container,
            )
            try:
                await there(place.start)
                yield place
            finally:
                proxy.clear()
                await there(place.stop)
                await proxy.stop()
