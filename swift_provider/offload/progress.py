"""Shows how far a job is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import time
from typing import Any, TextIO

from swift_provider.offload.tally import readable

LINE_EVERY_SECONDS = 30.0


class Progress:
    """Shows nothing itself; also what ``--no-progress`` gives."""

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        """So many more are done.

        :param files: files dealt with in all, where that is not what is counted.
        :param failed: files that failed, in all.
        :param size: bytes that were sent or received, in all.
        """

    def note(self, line: str) -> None:
        """Show a line that stays."""

    def close(self) -> None:
        """Nothing more comes."""


class Lines(Progress):
    """For a log file: a line every :data:`LINE_EVERY_SECONDS`, at once on its way."""

    def __init__(self, total: int | None, stream: TextIO, *, silent: bool = False) -> None:
        self._total = total
        self._stream = stream
        self._silent = silent
        self._done = 0
        self._began = self._shown = time.monotonic()

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        """Count, and say so if the last line is old."""
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
        """Show a line that stays."""
        print(line, file=self._stream, flush=True)


class Bar(Progress):
    """For a terminal, drawn by tqdm."""

    def __init__(self, total: int | None, stream: TextIO) -> None:
        import tqdm

        self._bar: Any = tqdm.tqdm(total=total, unit=" media", file=stream, dynamic_ncols=True)

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        """Move the bar."""
        if files or failed:
            self._bar.set_postfix_str(
                f"{files} files, {readable(size)}, {failed} failed", refresh=False
            )
        self._bar.update(count)

    def note(self, line: str) -> None:
        """Show a line above the bar."""
        self._bar.write(line, file=self._bar.fp)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()


def progress(total: int | None, stream: TextIO, *, wanted: bool) -> Progress:
    """What suits the stream.

    :param total: how many there are; ``None`` if nobody knows.
    :param wanted: ``False`` shows notes only.
    """
    if wanted and stream.isatty():
        return Bar(total, stream)
    return Lines(total, stream, silent=not wanted)
