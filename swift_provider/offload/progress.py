"""Shows the progress of a job: a bar on a terminal, otherwise a line every 30 seconds."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from swift_provider.offload.print_line import print_line
from swift_provider.sizes import readable

LINE_EVERY_SECONDS = 30.0

_WITH_TOTAL = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix} [{elapsed}<{remaining}]"
_WITHOUT_TOTAL = "{n_fmt}{unit}{postfix} [{elapsed}]"


class Progress:
    """What a job reports while it runs. This class shows no progress.

    :ivar events: grows with each sign of progress.
    """

    events = 0

    def expect(self, total: int | None) -> None:
        """Say how many there are in all; ``None`` if that is not known any more."""

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        """Add to the number of what is done.

        :param count: how many more.
        :param files: how many files the run has handled so far.
        :param failed: how many files have failed so far.
        :param size: how many bytes the run has sent or received so far.
        """
        self.events += 1

    def moved(self, count: int) -> None:
        """Bytes of a body were sent or received."""
        self.events += 1

    def waits(self, text: str) -> None:
        """There has been no progress for a while.

        :param text: for what the run waits, and since when; empty if it goes on again.
        """

    def note(self, line: str) -> None:
        """Print a line, above the bar if there is one."""

    def show(self, line: str) -> None:
        """Print a line of the command's result to standard output, and flush it."""
        print_line(line)

    def close(self) -> None:
        """Show the final state."""


class _Shown(Progress):
    """Counts, for the subclasses.

    :param total: of what is counted; ``None`` if unknown.
    :param unit: what is counted, such as ``"media"``.
    """

    def __init__(self, total: int | None, unit: str) -> None:
        self._total = total
        self._unit = unit
        self._began = time.monotonic()
        self._files = self._failed = self._size = 0
        self._moved = 0
        self._wait = ""

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        super().advance(count, files, failed, size)
        self._files, self._failed, self._size = files, failed, size

    def moved(self, count: int) -> None:
        super().moved(count)
        self._moved += count

    def _figures(self) -> str:
        """Failures first: a narrow terminal cuts off the end."""
        seconds = max(time.monotonic() - self._began, 1e-3)
        parts = [f"{self._failed} failed"]
        if self._files:
            parts.append(f"{self._files} files")
        if self._size:
            parts.append(readable(self._size))
        if self._moved:
            parts.append(f"{readable(int(self._moved / seconds))}/s")
        return ", ".join(parts)


class Lines(_Shown):
    """For a log file: prints a line every :data:`LINE_EVERY_SECONDS`, and flushes it.

    :param silent: print notes only; for ``--no-progress``.
    """

    def __init__(
        self, total: int | None, stream: TextIO, *, unit: str = "media", silent: bool = False
    ) -> None:
        super().__init__(total, unit)
        self._stream = stream
        self._silent = silent
        self._done = 0
        self._shown = self._began

    def expect(self, total: int | None) -> None:
        self._total = total

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        super().advance(count, files, failed, size)
        self._done += count
        self._show()

    def moved(self, count: int) -> None:
        super().moved(count)
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if self._silent or now - self._shown < LINE_EVERY_SECONDS:
            return
        self._shown = now
        of_total = "" if self._total is None else f" of {self._total}"
        rate = self._done / (now - self._began)
        left = ""
        if self._total is not None and self._done:
            left = f", {_readable_time(max(0, self._total - self._done) / rate)} left"
        self.note(f"{self._done}{of_total} {self._unit}, {rate:.1f}/s, {self._figures()}{left}")

    def waits(self, text: str) -> None:
        if text and not self._wait and not self._silent:
            self.note(text)
        self._wait = text

    def note(self, line: str) -> None:
        print_line(line, self._stream)


class Bar(_Shown):
    """For a terminal, drawn by tqdm."""

    def __init__(self, total: int | None, stream: TextIO, *, unit: str = "media") -> None:
        import tqdm

        super().__init__(total, unit)
        self._bar: Any = tqdm.tqdm(
            total=total,
            unit=f" {unit}",
            file=stream,
            dynamic_ncols=True,
            bar_format=_WITHOUT_TOTAL if total is None else _WITH_TOTAL,
        )

    def expect(self, total: int | None) -> None:
        self._bar.total = total
        self._bar.bar_format = _WITHOUT_TOTAL if total is None else _WITH_TOTAL

    def advance(self, count: int, files: int = 0, failed: int = 0, size: int = 0) -> None:
        super().advance(count, files, failed, size)
        self._set_figures()
        self._bar.update(count)

    def moved(self, count: int) -> None:
        super().moved(count)
        now = self._bar._time()
        if now - self._bar.last_print_t >= self._bar.mininterval:
            self._set_figures()
            self._bar.last_print_t = now
            self._bar.refresh()

    def waits(self, text: str) -> None:
        if text != self._wait:
            self._wait = text
            self._set_figures()
            self._bar.refresh()

    def _set_figures(self) -> None:
        # tqdm puts ", " before it.
        self._bar.set_postfix_str(self._wait or self._figures(), refresh=False)

    def note(self, line: str) -> None:
        self._bar.write(line, file=self._bar.fp)

    def show(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()

    def close(self) -> None:
        self._bar.close()


def _readable_time(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def progress(total: int | None, stream: TextIO, *, wanted: bool, unit: str = "media") -> Progress:
    """A bar for a terminal, lines for any other stream.

    :param total: of what is counted; ``None`` if unknown.
    :param wanted: ``False`` for notes only.
    :param unit: what is counted.
    """
    if wanted and stream.isatty():
        return Bar(total, stream, unit=unit)
    return Lines(total, stream, unit=unit, silent=not wanted)
