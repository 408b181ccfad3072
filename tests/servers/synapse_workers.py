"""A homeserver in several processes: the main one, and media repositories.

https://element-hq.github.io/synapse/latest/workers.html
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.servers import process
from tests.servers.synapse import Client, Synapse


class MediaWorker:
    """A process that serves media only.

    :param homeserver: the main process; it must run already.
    :param media_store: a folder that it shares with others; ``None`` for one of its own.
    """

    def __init__(self, homeserver: Synapse, name: str, media_store: Path | None = None) -> None:
        self.name = name
        self.folder = homeserver.folder / name
        self.media_store = media_store or self.folder / "media_store"
        self.log = self.folder / f"{name}.log"
        self.port = process.free_port()
        self.url = f"http://{process.LOOPBACK}:{self.port}"
        self._homeserver = homeserver
        self._process: process.Process | None = None
        self._config = homeserver.folder / f"{name}.yaml"
        settings = {
            "worker_app": "synapse.app.generic_worker",
            "worker_name": name,
            "worker_listeners": [_listener(self.port, "client", "media")],
            "worker_log_config": str(homeserver.folder / "log.yaml"),
            "enable_media_repo": True,
            "media_store_path": str(self.media_store),
            "pid_file": str(homeserver.folder / f"{name}.pid"),
        }
        self._config.write_text(yaml.safe_dump(settings))

    def client(self, token: str) -> Client:
        """:param token: from :meth:`Synapse.register`."""
        return Client(self.url, token)

    def start(self) -> None:
        """Start the process, and wait until it answers.

        :raises ServiceError: if it ends instead.
        """
        self.begin()()

    def begin(self) -> Callable[[], None]:
        """Start the process.

        :returns: waits until it answers, and raises :class:`ServiceError` if it ends instead.
        """
        command = [sys.executable, "-m", "synapse.app.generic_worker"]
        for config in (self._homeserver.config_path, self._config):
            command += ["--config-path", str(config)]
        self._process = process.Process(
            self.name, command, self.folder, env={"PYTHONPATH": str(process.ROOT)}
        )
        return partial(self._process.wait_for_url, f"{self.url}/health")

    def stop(self) -> None:
        """Stop the process in order; harmless if it does not run."""
        if self._process is not None:
            self._process.stop()

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None, "it was not started"
        return self._process.pid

    @contextlib.contextmanager
    def running(self) -> Iterator[MediaWorker]:
        """Start the process, and stop it at the end of the block.

        :raises ServiceError: if it ends instead.
        """
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def kill(self) -> None:
        """End the process with SIGKILL."""
        assert self._process is not None, "it was not started"
        self._process.stop(first=signal.SIGKILL)


class MainProcess(Synapse):
    """All but media.

    :param workers: names of the processes that serve media; the first one does the chores.
    :param redis_port: of a running Redis.
    :param options: as of :class:`Synapse`; ``database`` must be a PostgreSQL.
    """

    def __init__(
        self, folder: Path, workers: tuple[str, ...], redis_port: int, **options: Any
    ) -> None:
        self._workers = workers
        self._redis_port = redis_port
        super().__init__(folder, **options)

    def _settings(self, database: Mapping[str, Any] | None) -> dict[str, Any]:
        settings = super()._settings(database)
        replication = process.free_port()
        settings["listeners"].append(_listener(replication, "replication"))
        return {
            **settings,
            "redis": {"enabled": True, "host": process.LOOPBACK, "port": self._redis_port},
            "instance_map": {"main": {"host": process.LOOPBACK, "port": replication}},
            "worker_replication_secret": "only-on-loopback",
            "enable_media_repo": False,
            "media_instance_running_background_jobs": self._workers[0],
        }


@contextlib.contextmanager
def running_with_media_workers(
    folder: Path,
    names: tuple[str, ...],
    redis_port: int,
    media_store: Path | None = None,
    **options: Any,
) -> Iterator[tuple[MainProcess, list[MediaWorker]]]:
    """Start a homeserver whose media are in workers' hands, and stop all at the end of the block.

    :param media_store: a folder that all workers share; ``None`` for one of its own for each.
    :param options: see :class:`MainProcess`.
    :raises ServiceError: if one of them cannot start.
    """
    process.require_package("txredisapi")
    homeserver = MainProcess(folder, names, redis_port, **options)
    with contextlib.ExitStack() as stack:
        stack.callback(homeserver.stop)
        homeserver.start()
        workers = [MediaWorker(homeserver, name, media_store) for name in names]
        for worker in workers:
            stack.enter_context(worker.running())
        yield homeserver, workers


def _listener(port: int, *resources: str) -> dict[str, Any]:
    return {
        "port": port,
        "type": "http",
        "bind_addresses": [process.LOOPBACK],
        "resources": [{"names": list(resources)}],
    }
