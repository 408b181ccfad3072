"""Stands for ``swift_provider.offload.keeper``: speaks its protocol, and does what it is told.

``python fake_child.py PLAN``: PLAN is a JSON file, a list of steps, read at each start. The
order is added to ``PLAN.orders``, and the own process number to ``PLAN.pids``. Needs only the
standard library. No step lasts longer than :data:`MOST_SECONDS`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

MOST_SECONDS = 60.0


class FakeChild:
    """What a test tells the child, and what it learns of it.

    :param folder: for the plan.
    """

    def __init__(self, folder: Path) -> None:
        self._plan = folder / "plan.json"
        self.command = [sys.executable, str(Path(__file__).resolve()), str(self._plan)]
        self.tell()

    def tell(self, *steps: Any) -> None:
        """What each run does from now on: names of steps, or lists of a name and a value."""
        steps_ = [[step, None] if isinstance(step, str) else list(step) for step in steps]
        new = self._plan.with_suffix(".new")
        new.write_text(json.dumps(steps_))
        new.replace(self._plan)

    @property
    def orders(self) -> list[dict[str, Any]]:
        """All orders so far."""
        return [json.loads(line) for line in self._lines("orders")]

    @property
    def pids(self) -> list[int]:
        """The process numbers of all runs so far."""
        return [int(line) for line in self._lines("pids")]

    @property
    def ignores(self) -> bool:
        """Whether a run has come to the step ``ignore``."""
        return Path(f"{self._plan}.ignores").exists()

    def _lines(self, suffix: str) -> list[str]:
        path = Path(f"{self._plan}.{suffix}")
        # A line that is being written has no end yet.
        return path.read_text().split("\n")[:-1] if path.exists() else []


def report(**values: Any) -> tuple[str, dict[str, Any]]:
    """A step: write a report."""
    return "report", values


def done(*tasks: str, **values: Any) -> tuple[str, dict[str, Any]]:
    """A step: write the last report of a run that did some tasks."""
    return "report", {"final": True, "done": list(tasks), **values}


def main(plan: str) -> None:
    _add(f"{plan}.pids", str(os.getpid()))
    _add(f"{plan}.orders", sys.stdin.buffer.readline().decode().rstrip("\n"))
    for name, value in json.loads(Path(plan).read_text()):
        globals()[f"_step_{name}"](value)


def _add(path: str, line: str) -> None:
    with open(path, "a") as file:
        file.write(line + "\n")


def _step_report(values: dict[str, Any]) -> None:
    _step_write(json.dumps({"done": [], "troubles": {}, **values}) + "\n")


def _step_write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _step_say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _step_flood(count: int) -> None:
    """Write so many bytes to the standard error, in lines."""
    line = "INFO flood: " + "x" * 87 + "\n"
    _step_say(line * (count // len(line)))


def _step_crash(text: str) -> None:
    raise RuntimeError(text)


def _step_kill(_: None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _step_exit(status: int) -> None:
    os._exit(status)


def _step_wait(_: None) -> None:
    """End when the standard input is closed, as the child does."""
    signal.alarm(int(MOST_SECONDS))
    sys.stdin.buffer.read()
    os._exit(0)


def _step_ignore(_: None) -> None:
    """Neither the end of the standard input nor SIGTERM ends this."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(f"{sys.argv[1]}.ignores").touch()
    _step_report({"looked_at": 1})
    time.sleep(MOST_SECONDS)


def _step_until(path: str) -> None:
    """Wait until a file exists."""
    deadline = time.monotonic() + MOST_SECONDS
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)


if __name__ == "__main__":
    main(sys.argv[1])
