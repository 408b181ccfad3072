"""Shows the progress of a job: a bar on a terminal, otherwise a line every 30 seconds."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from swift_provider.offload.tally import readable

LINE_EVERY_SECONDS = 30.0


class Progress:
    """What a job reports while it runs. This class shows no progress."""

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        """Add to the number of media that are done.

        :param count: how many more.
        :param files: how many files the run has handled so far.
        :param failed: how many files have failed so far.
        :param size: how many bytes the run has sent or received so far.
        """

    def note(self, line: str) -> None:
        """Print a line, above the bar if there is one."""

    def show(self, line: str) -> None:
        """Print a line of the command's result to standard output, and flush it."""
        print(line, flush=True)

    def close(self) -> None:
        """Show the final state."""


class Lines(Progress):
    """For a log file: prints a line every :data:`LINE_EVERY_SECONDS`, and flushes it.

    :param total: of media; ``None`` if unknown.
    :param silent: print notes only; for ``--no-progress``.
    """

    def __init__(self, total: int | None, stream: TextIO, *, silent: bool = False) -> None:
        self._total = total
        self._stream = stream
        self._silent = silent
        self._done = 0
        self._began = self._shown = time.monotonic()

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        self._done += count
        now = time.monotonic()
        if self._silent or now - self._shown < LINE_EVERY_SECONDS:
            return
        self._shown = now
        of_total = "" if self._total is None else f" of {self._total}"
        rate = self._done / (now - self._began)
        self.note(
            f"{self._done}{of_total} media, {rate:.1f}/s, "
            f"{files} files, {readable(size)}, {failed} failed"
        )

    def note(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class Bar(Progress):
    """For a terminal, drawn by tqdm.

    :param total: of media; ``None`` if unknown.
    """

    def __init__(self, total: int | None, stream: TextIO) -> None:
        import tqdm

        self._bar: Any = tqdm.tqdm(total=total, unit=" media", file=stream, dynamic_ncols=True)

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        if files or failed:
            self._bar.set_postfix_str(
                f"{files} files, {readable(size)}, {failed} failed", refresh=False
            )
        self._bar.update(count)

    def note(self, line: str) -> None:
        self._bar.write(line, file=self._bar.fp)

    def show(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self._bar.close()


def progress(total: int | None, stream: TextIO, *, wanted: bool) -> Progress:
    """A bar for a terminal, lines for any other stream.

    :param total: of media; ``None`` if unknown.
    :param wanted: ``False`` for notes only.
    """
    if wanted and stream.isatty():
        return Bar(total, stream)
    return Lines(total, stream, silent=not wanted)
