"""What a job prints when a command runs it, as a few lines of Synapse's log."""

from __future__ import annotations

import logging

from swift_provider.offload.progress import Progress

logger = logging.getLogger(__name__)

#: Lines of a run that are logged. A run may have one for each of millions of files.
MOST_LINES = 50


class FewLines(Progress):
    """Logs a run's notes, as many as a person reads."""

    def __init__(self) -> None:
        self._lines = 0

    def note(self, line: str) -> None:
        self._write(logging.INFO, line)

    def warn(self, line: str) -> None:
        """Log a line with level WARNING."""
        self._write(logging.WARNING, line)

    def _write(self, level: int, line: str) -> None:
        self._lines += 1
        if self._lines <= MOST_LINES:
            logger.log(level, "%s", line)
        elif self._lines == MOST_LINES + 1:
            logger.log(level, "More such lines are not logged in this run")
