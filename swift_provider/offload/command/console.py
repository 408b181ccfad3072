"""The program's standard output and standard error, whatever they are connected to.

Nothing that happens to standard error disturbs a run: its messages are lost, and the run
goes on. When standard output fails, the run ends, and deletes nothing more.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO, cast

from swift_provider.offload.print_line import print_line


class OutputError(Exception):
    """Standard output cannot be written. No job catches this error, so it ends the job.

    :ivar cause: the system's error.
    """

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"cannot write to standard output: {cause.strerror}")
        self.cause = cause

    @property
    def reader_is_gone(self) -> bool:
        """Whether the other end of a pipe was closed, as ``head`` does."""
        return self.cause.errno == errno.EPIPE


@contextmanager
def console() -> Iterator[None]:
    """Guard ``sys.stdout`` and ``sys.stderr`` until the end of the block.

    Both may be closed (``>&-``), both may have an encoding that lacks a character, and
    both may fail. An error of standard output becomes :class:`OutputError`.
    """
    _open_closed_descriptors()
    stdout, stderr = _usable(sys.stdout), _usable(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, _Output(stdout)), cast(TextIO, _Messages(stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = stdout, stderr


def print_json(figures: Mapping[str, Any], status: int) -> None:
    """Print the one object that a command prints with ``--json``."""
    print_line(json.dumps({**figures, "status": status}, indent=2))


def _open_closed_descriptors() -> None:
    """Connect closed descriptors to ``/dev/null``, or the next file would get their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free number, which is this one.


def _usable(stream: TextIO | None) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


class _Guarded:
    """Passes everything on to a stream; an error of the stream disconnects it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._disconnect(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._disconnect(error)

    def _disconnect(self, error: OSError) -> None:
        # Python would write the rest of the buffer when it exits, and complain.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


class _Messages(_Guarded):
    """Standard error, whose errors are ignored."""


class _Output(_Guarded):
    """Standard output. After its first error, each further use raises that error too."""

    _error: OSError | None = None

    def write(self, text: str) -> int:
        self._check()
        return super().write(text)

    def flush(self) -> None:
        self._check()
        super().flush()

    def _check(self) -> None:
        if self._error is not None:
            raise OutputError(self._error)

    def _disconnect(self, error: OSError) -> None:
        super()._disconnect(error)
        self._error = error
        self._check()
