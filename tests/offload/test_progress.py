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
import time

import pytest

from swift_provider.offload.progress import progress


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
    assert lines[0] == "60 of 500 media, 2.0/s, 7 files, 3.0 KiB, 1 failed"
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
        shown.advance(3, files=9, failed=1, size=2048)
        shown.close()
    drawn = _all_from(ours).decode()
    assert "Failed: this one" in drawn
    assert "3/3" in drawn
    assert "9 files, 2.0 KiB, 1 failed" in drawn
    assert "tqdm" in sys.modules
