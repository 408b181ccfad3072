"""The marks by which processes tell each other what was done, or is wanted."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from swift_provider.keeper.marks import Mark, clear_mark, mark_time, set_mark


def test_a_mark_has_the_time_of_this_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file server's clock, which the system would take, may be ahead."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    set_mark(str(tmp_path), Mark.PRUNED)
    assert mark_time(str(tmp_path), Mark.PRUNED) == 1_000_000_000
    assert mark_time(str(tmp_path), Mark.REPAIR) is None


def test_a_mark_on_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows its time then. A file server may lose a file that is open (ESTALE)."""

    def fail(_: int) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    set_mark(str(tmp_path), Mark.REPAIR)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fail)
        assert mark_time(str(tmp_path), Mark.REPAIR) is None


def test_a_mark_that_was_set_again_stays(tmp_path: Path) -> None:
    """What was asked for meanwhile is not forgotten."""
    set_mark(str(tmp_path), Mark.REPAIR)
    seen = mark_time(str(tmp_path), Mark.REPAIR)
    os.utime(tmp_path / ".swift_provider" / "repair", (1, 1))
    clear_mark(str(tmp_path), Mark.REPAIR, seen)
    assert mark_time(str(tmp_path), Mark.REPAIR) == 1_000_000_000
    clear_mark(str(tmp_path), Mark.REPAIR, 1_000_000_000)
    assert mark_time(str(tmp_path), Mark.REPAIR) is None
