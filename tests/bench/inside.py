"""A Synapse module that measures from inside: how late the reactor is, what the process uses.

``GET /_bench/watch`` or ``GET /_bench/begin`` begins, ``GET /_bench/end`` ends and tells.
After ``watch`` a timer of 5 ms runs in between, whose processor time counts as Synapse's;
after ``begin`` none does. Nothing of this project is imported: the module is loaded into
Synapse environments that do not have it.
"""

from __future__ import annotations

import json
import re
import resource
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource

TICK_SECONDS = 0.005


class Inside:
    """Made by Synapse, as an entry of ``modules``."""

    def __init__(self, config: Any, api: Any) -> None:
        root = Resource()
        timer = Timer()
        root.putChild(b"begin", Answer(timer.begin))
        root.putChild(b"watch", Answer(timer.watch))
        root.putChild(b"end", Answer(timer.end))
        api.register_web_resource("/_bench", root)


class Answer(Resource):
    """Calls a function, answers with its result as JSON."""

    isLeaf = True

    def __init__(self, function: Any) -> None:
        super().__init__()
        self._function = function

    def render_GET(self, request: Any) -> bytes:
        return json.dumps(self._function()).encode()


class Timer:
    """Notes what the process uses and, if asked to, by how much each tick comes too late."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._call: Any = None

    def begin(self) -> dict[str, float]:
        """Forget what was, and begin, without ticks."""
        self._late = []
        # Linux: let the peak of the resident set begin anew.
        Path("/proc/self/clear_refs").write_text("5")
        self._began, self._cpu, self._rss = time.monotonic(), _cpu(), _status("VmRSS")
        return {}

    def watch(self) -> dict[str, float]:
        """Begin, with ticks."""
        self.begin()
        self._next()
        return {}

    def end(self) -> dict[str, float]:
        """Milliseconds, seconds, megabytes."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        late = sorted(self._late) or [0.0]
        return {
            "late_p50": 1000 * late[len(late) // 2],
            "late_p99": 1000 * late[int(len(late) * 0.99)],
            "late_max": 1000 * late[-1],
            "seconds": time.monotonic() - self._began,
            "cpu": _cpu() - self._cpu,
            "grew": _status("VmHWM") - self._rss,
        }

    def _next(self) -> None:
        self._due = time.monotonic() + TICK_SECONDS
        self._call = reactor.callLater(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._late.append(max(0.0, time.monotonic() - self._due))
        self._next()


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _status(name: str) -> float:
    """In megabytes."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
