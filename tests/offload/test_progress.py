"""What a person sees of a run."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import sys
import termios

import pytest

from swift_provider.offload import progress as module
from swift_provider.offload.progress import progress
from swift_provider.offload.tally import Summary, readable


def test_lines_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on a terminal there is a line every half a minute, flushed at once."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = progress(500, stream, wanted=True)
    for _ in range(100):
        now[0] += 1
        shown.advance(2, files=7, failed=1, size=3072)
    shown.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "60 of 500 media, 2.0/s, 7 files, 3.0 KiB, 1 failed"
    assert len(lines) == 3


def test_no_progress() -> None:
    """--no-progress shows failures, and nothing else."""
    stream = io.StringIO()
    shown = progress(None, stream, wanted=False)
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
        shown.advance(3, files=9, failed=1, size=2048)
        shown.close()
    drawn = _all_from(ours).decode()
    assert "Failed: this one" in drawn
    assert "3/3" in drawn
    assert "9 files, 2.0 KiB, 1 failed" in drawn
    assert "tqdm" in sys.modules


def test_summary_for_people() -> None:
    """The closing lines tell figures and reasons, and in a dry run what would have been."""
    summary = Summary(dry_run=True, media=2, found=3, uploaded=1, uploaded_bytes=2048)
    summary.skipped["a reason"] = 4
    summary.failed["another"] = 5
    lines = summary.lines()
    assert "Would have uploaded: 1 (2.0 KiB)" in lines
    assert "Skipped: 4: a reason" in lines
    assert "Failed: 5: another" in lines
    assert not any(line.startswith("Stopped") for line in lines)


def test_readable_sizes() -> None:
    """Sizes are shown in the largest unit that leaves a whole number."""
    assert [readable(n) for n in (0, 1023, 1024, 5 * 1024**3, 2**50)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "5.0 GiB",
        "1024.0 TiB",
    ]
