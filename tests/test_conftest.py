"""The checks after each test, seen by running pytest on small test files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import group_of
from tests.servers.process import ROOT

_PLUGINS = ("-p", "tests.conftest", "-p", "no:cacheprovider")


def _pytest(folder: Path, text: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text)
    kept = {key: value for key, value in os.environ.items() if key != "CI"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *_PLUGINS, *options, "."],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_timer_left_behind_fails(tmp_path: Path) -> None:
    """A test that leaves a DelayedCall fails, and the next one is not blamed for it."""
    result = _pytest(
        tmp_path,
        """
async def test_leaves():
    from twisted.internet import reactor
    reactor.callLater(60, print)
async def test_leaves_nothing():
    pass
""",
    )
    assert result.returncode == 1
    assert "2 passed, 1 error" in result.stdout
    assert "test_leaves: the test left timers" in result.stdout.replace(" - AssertionError", "")


def test_timer_that_soon_ends_passes(tmp_path: Path) -> None:
    """What ends within the grace is no leak."""
    result = _pytest(
        tmp_path,
        """
async def test_leaves():
    from twisted.internet import reactor
    reactor.callLater(0.1, print)
""",
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_waiting_for_ever_fails(tmp_path: Path, hours: int) -> None:
    """The message shows where it waited; also if the test has set the reactor's clock."""
    result = _pytest(
        tmp_path,
        f"""
from twisted.internet.defer import Deferred
async def test_waits(monkeypatch):
    from twisted.internet import reactor
    seconds = reactor.seconds
    monkeypatch.setattr(reactor, "seconds", lambda: seconds() + 3600 * {hours})
    before = seconds()
    try:
        await Deferred()
    finally:
        assert seconds() - before > 5
async def test_goes_on():
    pass
""",
        "--timeout",
        "10",
    )
    assert result.returncode == 1
    assert "1 failed, 1 passed" in result.stdout
    assert "not over after 8 s; it waited here" in result.stdout
    assert "await Deferred()" in result.stdout


def test_groups(tmp_path: Path) -> None:
    """pytest-xdist gives each process whole files, and what must not run at once to one."""
    for name in ("a", "b"):
        (tmp_path / f"test_{name}.py").write_text("""
import os, pytest
@pytest.mark.parametrize("number", range(20))
def test_process(number):
    print("process of", __name__, os.getpid())
""")
    result = _pytest(tmp_path, "", "-n", "2", "--no-loadscope-reorder", "-rP")
    assert result.returncode == 0, result.stdout
    lines = [line for line in result.stdout.splitlines() if line.startswith("process of")]
    assert len(lines) == 40
    assert len(set(lines)) == 2
    for one, other in (
        ("module/test_disk_full.py::test_x", "test_demo.py::test_y[1]"),
        ("module/test_media.py::test_x[ours]", "module/test_local_disk.py::test_y[ours-1]"),
        ("module/test_media.py::test_x[1.140.0]", "module/test_faults.py::test_y[1.140.0-1]"),
    ):
        assert group_of(f"tests/{one}") == group_of(f"tests/{other}")


@pytest.mark.parametrize("kept", ["", "d.loop = d"])
def test_unhandled_failure_fails(tmp_path: Path, kept: str) -> None:
    """A test that drops a failed Deferred fails, even if the Deferred is part of a cycle."""
    result = _pytest(
        tmp_path,
        f"""
from twisted.internet.defer import fail
async def test_drops():
    d = fail(ValueError("nobody cares"))
    {kept}
""",
    )
    assert result.returncode == 1
    assert "ValueError: nobody cares" in result.stdout


@pytest.mark.parametrize(
    "text",
    [
        "import pytest\ndef test_skipped():\n    pytest.skip('no such service')",
        "import pytest\npytest.skip('no such service', allow_module_level=True)",
    ],
)
def test_skip_fails_in_ci(tmp_path: Path, text: str) -> None:
    """A skipped test or file fails when CI=true, with its reason, and only then."""
    in_ci = _pytest(tmp_path, text, CI="true")
    assert in_ci.returncode != 0
    assert "no such service" in in_ci.stdout
    assert _pytest(tmp_path, text).returncode in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
