"""A Synapse module that starts one run of local_disk after the other, as the module would.

``GET /_bench_runs/begin`` begins, ``GET /_bench_runs/end`` ends the run and tells what was
done, ``GET /_bench_runs/running`` tells whether its process is still there. The order of each
run is read from the file that the option ``order`` names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource

from swift_provider.keeper import Report
from swift_provider.module.keeper_process import COMMAND, Ended, KeeperProcess
from tests.bench.inside import Answer


class RunsInside:
    """Made by Synapse, as an entry of ``modules``."""

    def __init__(self, config: dict[str, str], api: Any) -> None:
        self._order = Path(config["order"])
        self._process: KeeperProcess | None = None
        self._stopping = False
        self._runs = 0
        self._bad = ""
        root = Resource()
        for name in ("begin", "end", "running"):
            root.putChild(name.encode(), Answer(getattr(self, name)))
        api.register_web_resource("/_bench_runs", root)

    def begin(self) -> dict[str, Any]:
        """Start runs until :meth:`end`."""
        self._stopping, self._runs, self._bad = False, 0, ""
        self._start()
        return {}

    def end(self) -> dict[str, Any]:
        """Start no more, and end the last one."""
        self._stopping = True
        if self._process is not None:
            self._process.stop()
        return {"runs": self._runs, "bad": self._bad}

    def running(self) -> dict[str, Any]:
        return {"running": self._process is not None}

    def _start(self) -> None:
        self._process = KeeperProcess(reactor, COMMAND, lambda report: None)
        self._runs += 1
        self._process.start(self._order.read_bytes()).addCallback(self._ended)

    def _ended(self, ended: Ended) -> None:
        self._process = None
        if self._stopping:
            return
        report: Report = ended.report
        if ended.died is not None or report.troubles:
            self._bad = f"{ended.died}, {report.troubles}"
            return
        self._start()
