"""Runs the process that keeps the disk within its limits, as the module does."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swift_provider._version import __version__
from swift_provider.config import LocalDiskSettings, parse_settings
from swift_provider.keeper import Order, Report, Task
from tests.offload.conftest import Objects
from tests.offload.synapse_store import SynapseStore
from tests.servers import process

NOW = time.time()


@dataclass
class Ended:
    """A run that is over."""

    report: Report
    log: str


class Keeper:
    """:param options: of Swift; ``container`` and how to sign in.
    :ivar code: Python to run in place of the process's own module; ``None`` for that.
    """

    def __init__(
        self, store: SynapseStore, options: dict[str, Any], environment: dict[str, str]
    ) -> None:
        self.store = store
        self.options = options
        self.environment = environment
        self.code: str | None = None

    def order(self, *tasks: Task, **changes: Any) -> Order:
        """:param changes: fields of the order, or options of ``local_disk``."""
        limits = {key: changes.pop(key) for key in _LIMITS if key in changes}
        database = self.store.config
        values: dict[str, Any] = {
            "version": __version__,
            "environment": self.environment,
            "settings": parse_settings(self.options),
            "limits": LocalDiskSettings(**limits),
            "server_name": "here.example",
            "media_store": str(self.store.base),
            "database": {"name": database.engine, "args": dict(database.args)},
            "tasks": frozenset(tasks),
            "repair_kinds": frozenset({"local", "remote"}),
            "quiet_seconds": 600.0,
            "young_seconds": 86400.0,
            "written_since": NOW + 3600,
            **changes,
        }
        return Order(**values)

    def start(self, order: Order) -> subprocess.Popen[bytes]:
        """Start a run; the order is sent, its pipe is open."""
        # SQLite reads it before the order comes.
        temporary = {key: self.environment[key] for key in _READ_EARLY & self.environment.keys()}
        what = ["-m", "swift_provider.offload.keeper"] if self.code is None else ["-c", self.code]
        child = subprocess.Popen(
            [sys.executable, *what],
            env=process.child_environment({"PYTHONPATH": str(process.ROOT), **temporary}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdin is not None
        child.stdin.write(order.to_line())
        child.stdin.flush()
        return child

    def run(self, *tasks: Task, **changes: Any) -> Ended:
        """A run to its end."""
        child = self.start(self.order(*tasks, **changes))
        assert child.stdout is not None
        assert child.stderr is not None
        with child:
            lines, log = child.stdout.read().splitlines(), child.stderr.read().decode()
        assert child.returncode == 0, log
        report = Report.from_line(lines[-1])
        assert report.final
        return Ended(report, log)


_READ_EARLY = {"SQLITE_TMPDIR"}
_LIMITS = ("max_size", "min_free", "older_than", "prune")


@pytest.fixture
def keeper(any_store: SynapseStore, clouds_yaml: Callable[..., Path], objects: Objects) -> Keeper:
    """For a media store with either database, and a real Swift."""
    options = {"cloud": "matrix", "container": objects.container}
    any_store.written = NOW - 2 * 86400
    return Keeper(any_store, options, {"OS_CLIENT_CONFIG_FILE": str(clouds_yaml())})
