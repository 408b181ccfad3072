"""What a person sees of a run."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

import pytest

from swift_provider.offload.command.stalls import Stalls
from swift_provider.offload.progress import Progress, progress
from tests.offload.conftest import Script
from tests.offload.synapse_store import SynapseStore


def test_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on a terminal there is a line every half a minute, flushed at once."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    flushed = io.BytesIO()
    shown = progress(500, io.TextIOWrapper(flushed), wanted=True)
    for _ in range(100):
        now[0] += 1
        shown.advance(2, files=7, failed=1, size=3072)
    shown.close()
    lines = flushed.getvalue().decode().splitlines()
    assert lines[0] == "60 of 500 media, 2.0/s, 1 failed, 7 files, 3.0 KiB, 4 min left"
    assert len(lines) == 3


def test_no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """--no-progress shows failures, and nothing else."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = progress(None, stream, wanted=False)
    for _ in range(100):
        now[0] += 1
        shown.advance(1)
    shown.note("Failed: this one")
    shown.close()
    assert stream.getvalue() == "Failed: this one\n"


def _all_from(terminal: int) -> bytes:
    """What was written to the other side, which is closed: one read may give a part of it."""
    parts = []
    with open(terminal, "rb", buffering=0) as stream, contextlib.suppress(OSError):  # EIO: the end
        while part := stream.read(10_000):
            parts.append(part)
    return b"".join(parts)


def test_a_bar_on_a_terminal() -> None:
    """On a terminal there is a bar with files, rate and failures; notes stay above it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        shown = progress(3, terminal, wanted=True)
        shown.note("Failed: this one")
        with contextlib.redirect_stdout(terminal):
            shown.show("a result")
        shown.advance(3, files=9, failed=1, size=2048)
        shown.close()
        shown.close()
    drawn = _all_from(ours).decode()
    for line in ("Failed: this one", "a result"):
        before, _, after = drawn.partition(line)
        assert before.endswith(" \r"), "the bar is still on this line"
        assert after.startswith("\r\n")
        assert line not in after
    assert drawn.count("3/3") == drawn.count("\r100%") <= 2
    assert drawn.endswith("\r\n")
    assert "3/3" in drawn
    assert "3/3, 1 failed, 9 files, 2.0 KiB" in drawn
    assert "tqdm" in sys.modules


def _drawn(columns: int, total: int | None, use: Callable[[Progress], None]) -> str:
    """What a terminal of this width gets."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        shown = progress(total, terminal, wanted=True, unit="files")
        use(shown)
        shown.close()
    return _all_from(ours).decode()


def test_a_narrow_terminal() -> None:
    """What is cut off at the end are not the failures."""

    def use(shown: Progress) -> None:
        shown.moved(1 << 30)
        shown.advance(1234, files=2345, failed=12, size=1 << 30)

    last = _drawn(60, 1234, use).rstrip().rpartition("\r")[2]
    assert len(last) <= 60
    assert "1234/1234, 12 failed, 2345 files, 1.0 GiB" in last


def test_a_total_that_is_known_later() -> None:
    """Before, there is only a count; both name what is counted, or how many there are."""

    def use(shown: Progress) -> None:
        shown.advance(3)
        time.sleep(0.2)  # tqdm draws no more often than every 0.1 s
        shown.waits("Waiting for Swift for 12 s")
        shown.expect(4)
        shown.waits("")
        shown.advance(1)

    drawn = _drawn(100, None, use)
    assert "3 files, Waiting for Swift for 12 s [" in drawn
    assert "4/4, 0 failed" in drawn


def test_bytes_of_one_large_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are progress, too."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = progress(1, stream, wanted=True, unit="files")
    now[0] += 64
    shown.moved(1 << 26)
    assert stream.getvalue() == "0 of 1 files, 0.0/s, 0 failed, 1.0 MiB/s\n"


def test_a_run_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds without progress, it is said once what the run waits for."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = progress(2, stream, wanted=True)
    stalls = Stalls(shown, lambda: "the database", lambda: now[0])

    def look(seconds: int) -> None:
        for _ in range(seconds):
            now[0] += 1
            stalls.look()

    look(9)
    assert stream.getvalue() == ""
    look(5)
    line = "Waiting for the database for 10 s\n"
    assert stream.getvalue() == line
    shown.moved(1)
    look(10)
    assert stream.getvalue() == line
    look(5)
    assert stream.getvalue() == line * 2


MEDIA = 20_000
INTERRUPTED = "\r\nInterrupted: nothing is lost; run the command again\r\n"


def test_interrupted_on_a_terminal(script: Script, store: SynapseStore) -> None:
    """Whenever Ctrl-C is pressed, the last line is the message, below the bar."""
    store.execute("BEGIN")
    for number in range(MEDIA):
        store.add_local(f"media-{number}", None)
    store.execute("COMMIT")
    script.configure(store)
    for step in range(12):
        ours, theirs = pty.openpty()
        running = subprocess.Popen(
            script.command("update", str(store.base), "2m"),
            cwd=script.folder,
            env=script.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        began = select.select([ours], [], [], 30)[0]  # The first line was printed.
        assert began == [ours]
        time.sleep(step * 0.04)
        running.send_signal(signal.SIGINT)
        drawn = _all_from(ours).decode()
        running.wait(timeout=30)
        assert "Traceback" not in drawn
        assert "Exception" not in drawn
        if running.returncode != -signal.SIGINT:  # It was over before.
            assert running.returncode in (0, 130), drawn
            assert drawn.endswith(INTERRUPTED) or "as deleted" in drawn


def test_interrupted_at_the_start(script: Script) -> None:
    """Ctrl-C while Python still imports the program leaves no traceback."""
    for step in range(4):
        running = script.start("update-db", "2m")
        time.sleep(0.06 + step * 0.03)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=30)
        assert "swift_provider" not in told or "Traceback" not in told
