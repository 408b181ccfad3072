"""The child process of a run: its reports, its log lines, its end. The processes are real."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from swift_provider.keeper import Report, Task
from swift_provider.module import keeper_process
from swift_provider.module.keeper_process import (
    MOST_LINE_BYTES,
    MOST_LOG_LINES,
    Ended,
    KeeperProcess,
    Lines,
    child_environment,
)
from tests.client.trouble import until
from tests.module.fake_child import FakeChild, done, report

ORDER = b'{"password": "hunter2"}\n'


class Run:
    """One child process, and what it reported."""

    def __init__(self, folder: Path, *steps: Any) -> None:
        from twisted.internet import reactor  # pytest-twisted chooses it

        self.reports: list[Report] = []
        self.fake = FakeChild(folder)
        self.fake.tell(*steps)
        self.process = KeeperProcess(reactor, self.fake.command, self.reports.append)

    def start(self) -> Deferred[Ended]:
        return self.process.start(ORDER)

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    logger = logging.getLogger("swift_provider")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


async def test_a_run(tmp_path: Path) -> None:
    """The child gets the order; each report arrives, and the last one is the result."""
    run = Run(tmp_path, report(looked_at=1), report(looked_at=2), done("keep", looked_at=3))
    ended = await run.start()
    assert ended == Ended(Report(True, looked_at=3, done=[Task.KEEP]), None)
    assert [one.looked_at for one in run.reports] == [1, 2, 3]
    assert run.fake.orders == [{"password": "hunter2"}]


async def test_reports_arrive_while_it_runs(tmp_path: Path) -> None:
    """Nobody has to wait for the end of a long run."""
    go = tmp_path / "go"
    run = Run(tmp_path, report(looked_at=1), ["until", str(go)], done("keep"))
    ended = run.start()
    await until(lambda: len(run.reports) == 1)
    go.touch()
    assert (await ended).died is None


async def test_a_large_order(tmp_path: Path) -> None:
    """It is larger than what a pipe holds."""
    run = Run(tmp_path, done())
    order = b'"' + b"x" * 1_000_000 + b'"\n'
    assert (await run.process.start(order)).died is None
    assert run.fake.orders == ["x" * 1_000_000]


DEATHS = [
    ([["crash", "no luck"]], r"^exit status 1; its last line: RuntimeError: no luck$"),
    (["kill"], r"^it was killed by signal 9; its last line: \(none\)$"),
    ([done("keep"), "kill"], r"signal 9"),
    ([done("keep"), ["exit", 3]], r"^exit status 3"),
    ([report(looked_at=1)], r"^it ended without its last report"),
    ([["write", "garbage\n[]\n"]], r"it wrote 2 lines that are no reports"),
    ([["write", "[" * 50_000 + "\n"]], r"it wrote 1 lines"),
    ([["write", "no end"]], r"it wrote 1 lines"),
]


@pytest.mark.parametrize(("steps", "said"), DEATHS)
async def test_a_death(tmp_path: Path, steps: list[Any], said: str) -> None:
    """It is told apart from an end in order, and says how, with its last words."""
    ended = await Run(tmp_path, *steps).start()
    assert ended.died is not None
    assert re.search(said, ended.died), ended.died


async def test_what_was_reported_before_a_death_counts(tmp_path: Path) -> None:
    """The last report that arrived is the result, also among garbage."""
    steps = [report(removed=1), ["write", "garbage\n"], report(removed=5), "kill"]
    ended = await Run(tmp_path, *steps).start()
    assert ended.report.removed == 5


async def test_no_such_program(tmp_path: Path) -> None:
    """A program that cannot be started is an OSError, or a child that dies at once."""
    from twisted.internet import reactor  # pytest-twisted chooses it

    process = KeeperProcess(reactor, [str(tmp_path / "absent")], print)
    try:
        ended = await process.start(ORDER)
    except OSError:
        return
    assert ended.died is not None


def test_a_line_without_end_takes_little_memory() -> None:
    """Only the begin of a long line is kept, and the next line is whole."""
    got: list[bytes] = []
    lines = Lines(got.append)
    for _ in range(100):
        lines.add(b"x" * MOST_LINE_BYTES)
        assert len(lines._begun) == MOST_LINE_BYTES
    lines.add(b"\nnext\nla")
    lines.add(b"st")
    lines.end()
    assert got == [b"x" * MOST_LINE_BYTES, b"next", b"last"]


async def test_log_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each line of its standard error is logged, at the level that it names."""
    text = "WARNING a.b: careful\nDEBUG a: detail\nwithout level\nERROR c: bad\n\n"
    ended = await Run(tmp_path, ["say", text], done()).start()
    assert ended.died is None
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "local_disk: a.b: careful"),
        ("INFO", "local_disk: without level"),
        ("ERROR", "local_disk: c: bad"),
    ]


async def test_a_flood_of_log_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All is read, so that the child does not wait; Synapse's log gets the first lines."""
    ended = await Run(tmp_path, ["flood", 5_000_000], ["say", "last"], done()).start()
    assert ended.died is None
    assert len(caplog.records) == MOST_LOG_LINES + 1
    assert "49001 more lines were left out" in caplog.records[-1].getMessage()


async def test_a_line_of_the_log_without_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is cut."""
    await Run(tmp_path, ["say", "ERROR a: " + "x" * 1_000_000], done()).start()
    (record,) = caplog.records
    assert len(record.getMessage()) < 3000


async def test_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child ends when its standard input is closed."""
    monkeypatch.setattr(keeper_process, "KILL_SECONDS", 20.0)
    monkeypatch.setattr(keeper_process, "GONE_SECONDS", 20.0)
    run = Run(tmp_path, report(looked_at=1), "wait")
    ended = run.start()
    await until(lambda: len(run.reports) == 1)
    await run.process.stop()
    assert ended.called
    with pytest.raises(ProcessLookupError):
        os.kill(run.fake.pids[0], 0)


async def test_stop_kills_what_does_not_end(tmp_path: Path) -> None:
    """A child that ignores both signs is killed."""
    run = Run(tmp_path, "ignore")
    ended = run.start()
    await until(lambda: len(run.reports) == 1)
    await run.process.stop()
    assert (await ended).died == "it was killed by signal 9; its last line: (none)"


async def test_stop_does_not_wait_for_the_impossible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even SIGKILL may have to wait for a disk that hangs; Synapse stops all the same."""
    monkeypatch.setattr(keeper_process, "KILL_SECONDS", 50.0)
    monkeypatch.setattr(keeper_process, "GONE_SECONDS", 0.1)
    run = Run(tmp_path, "ignore")
    ended = run.start()
    await until(lambda: len(run.reports) == 1)
    await run.process.stop()
    assert not ended.called
    os.kill(run.pid, signal.SIGKILL)
    await ended


async def test_stop_twice_and_too_late(tmp_path: Path) -> None:
    """Each call is answered when the child is gone."""
    run = Run(tmp_path, report(looked_at=1), "wait")
    ended = run.start()
    await until(lambda: len(run.reports) == 1)
    first, second = run.process.stop(), run.process.stop()
    await first
    await second
    await ended
    await run.process.stop()


async def test_no_secret_can_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments and environment of the child, which others can list, hold no secret."""
    monkeypatch.setenv("OS_PASSWORD", "hunter2")
    monkeypatch.setenv("SYNAPSE_SECRET", "hunter2")
    monkeypatch.setenv("PYTHONSTARTUP", "kept")
    run = Run(tmp_path, report(looked_at=1), "wait")
    ended = run.start()
    await until(lambda: len(run.reports) == 1)
    folder = Path(f"/proc/{run.pid}")
    assert b"hunter2" not in (folder / "cmdline").read_bytes()
    environment = (folder / "environ").read_bytes()
    assert b"hunter2" not in environment
    assert b"PYTHONSTARTUP=kept" in environment
    await run.process.stop()
    await ended


def test_environment() -> None:
    """What Python needs to start, and nothing else."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SQLITE_TMPDIR", "PYTHONPATH")
    kept += ("LD_LIBRARY_PATH", "LD_PRELOAD")
    others = ("OS_PASSWORD", "PATHS", "XLD_A", "https_proxy", "PGPASSWORD", "SYNAPSE_X", "path")
    found = child_environment(dict.fromkeys(kept + others, "x\udcff"))
    assert found == {name.encode(): b"x\xff" for name in kept}, "also if it is no text"
