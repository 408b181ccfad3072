"""The child process of one run: its pipes, its log lines, its end.

The order goes through its standard input, which stays open: the child ends when it is
closed, so it also ends if this process is killed. Arguments and environment of a process
can be listed, so neither holds a secret.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from swift_provider.keeper import BadMessageError, Report
from swift_provider.module.monotonic_call import MonotonicCall

logger = logging.getLogger(__name__)

#: What runs the child.
COMMAND = (sys.executable, "-m", "swift_provider.offload.keeper")

#: Synapse stops: how long the child has to end, and when nobody waits for it any longer, even
#: if the kernel has not ended it yet.
KILL_SECONDS = 1.5
GONE_SECONDS = 1.7

#: A longer line is cut.
MOST_LINE_BYTES = 64 * 1024
MOST_LOG_CHARACTERS = 2000
#: So many lines of its standard error are logged for each run.
MOST_LOG_LINES = 1000

_VARIABLES = re.compile(r"(PATH|HOME|LANG|LC_.*|TZ|TMPDIR|SQLITE_TMPDIR|PYTHON.*|LD_.*)\Z")
_LOG_LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")
_LEVELS = {
    name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
}


def child_environment(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    """What Python and the libraries need to start: all else goes through the pipe.

    As bytes, because Twisted refuses text that is not valid in the locale's encoding.
    """
    return {
        os.fsencode(name): os.fsencode(value)
        for name, value in environment.items()
        if _VARIABLES.match(name)
    }


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    :ivar report: the last one.
    :ivar died: ``None`` if the child ended in order, after its final report. Otherwise how it
        died, such as ``"it was killed by signal 9"``, with the last line of its standard error.
    """

    report: Report
    died: str | None


class Lines:
    """Cuts a stream into lines. It keeps no more than :data:`MOST_LINE_BYTES` of a line.

    :param got: gets each line, without its end; what is too long is cut off.
    """

    def __init__(self, got: Callable[[bytes], None]) -> None:
        self._got = got
        self._begun = b""

    def add(self, data: bytes) -> None:
        *whole, rest = data.split(b"\n")
        for line in whole:
            line = self._begun + line[:MOST_LINE_BYTES]
            self._begun = b""
            self._got(line[:MOST_LINE_BYTES])
        self._begun = (self._begun + rest[:MOST_LINE_BYTES])[:MOST_LINE_BYTES]

    def end(self) -> None:
        """The stream has ended: the last line may lack its end."""
        if self._begun:
            self.add(b"\n")


class KeeperProcess(ProcessProtocol):
    """One child process. It is started once.

    :param command: what to run.
    :param reported: gets each report when it arrives.
    :param is_quiet: log its lines below the level WARNING with DEBUG: they were logged before.
    :ivar heard: when it was started, or last reported anything, by :func:`time.monotonic`.
    :ivar is_ending: it was told to end.
    """

    def __init__(
        self,
        reactor: Any,
        command: Sequence[str],
        reported: Callable[[Report], None],
        is_quiet: bool = False,
    ) -> None:
        self._reactor = reactor
        self._command = command
        self._reported = reported
        self._is_quiet = is_quiet
        self._report = Report()
        self._output = Lines(self._read_report)
        self._errors = Lines(self._log)
        self._last_line = ""
        self._logged = 0
        self._garbage = 0
        self.heard = time.monotonic()
        self.is_ending = False
        self._process: Any = None
        self._ended: Deferred[Ended] = Deferred()
        self._gone: deque[Deferred[None]] = deque()
        self._has_ended = False

    @property
    def pid(self) -> int | None:
        """Its number; ``None`` if it does not run."""
        return None if self._process is None else self._process.pid

    @property
    def idle(self) -> float:
        """For how many seconds the run has got no further, as it said itself."""
        return self._report.idle

    def start(self, order: bytes) -> Deferred[Ended]:
        """Start the child, and send it an order.

        :param order: the message.
        :returns: fires when the process is gone and all that it wrote was read.
        :raises OSError: if the system cannot start it.
        """
        # No `path`: the child has the same working directory, and Twisted need not fork a
        # process of Synapse's size.
        self._process = self._reactor.spawnProcess(
            self, self._command[0], list(self._command), child_environment(os.environ)
        )
        self._process.write(order)
        return self._ended

    def stop(self) -> Deferred[None]:
        """End the child. It is killed if it does not end within :data:`KILL_SECONDS`.

        :returns: fires when it is gone, and at the latest after :data:`GONE_SECONDS`.
        """
        gone: Deferred[None] = Deferred()
        if self._process is None or self._has_ended:
            gone.callback(None)
            return gone
        self._gone.append(gone)
        self.is_ending = True
        self._process.closeStdin()
        timers = [
            MonotonicCall(self._reactor, KILL_SECONDS, self._kill),
            MonotonicCall(self._reactor, GONE_SECONDS, self._stop_waiting),
        ]

        def cancel(result: None) -> None:
            for timer in timers:
                timer.cancel()

        gone.addBoth(cancel)
        return gone

    def _kill(self) -> None:
        with contextlib.suppress(ProcessExitedAlready):
            self._process.signalProcess("KILL")

    def _stop_waiting(self) -> None:
        while self._gone:
            self._gone.popleft().callback(None)

    # What Twisted calls

    def outReceived(self, data: bytes) -> None:
        self._output.add(data)

    def errReceived(self, data: bytes) -> None:
        self._errors.add(data)

    def processEnded(self, reason: Failure) -> None:
        self._has_ended = True
        self._output.end()
        self._errors.end()
        if self._logged > MOST_LOG_LINES:
            logger.info("local_disk: %d more lines were left out", self._logged - MOST_LOG_LINES)
        self._ended.callback(Ended(self._report, self._how(reason.value)))
        self._stop_waiting()

    def _how(self, reason: BaseException | None) -> str | None:
        if isinstance(reason, ProcessDone) and self._report.final:
            return None
        signal = getattr(reason, "signal", None)
        status = getattr(reason, "exitCode", None)
        if signal is not None:
            how = f"it was killed by signal {signal}"
        elif status:
            how = f"exit status {status}"
        else:
            how = "it ended without its last report"
        if self._garbage:
            how += f"; it wrote {self._garbage} lines that are no reports"
        return f"{how}; its last line: {self._last_line or '(none)'}"

    def _read_report(self, line: bytes) -> None:
        try:
            report = Report.from_line(line)
        except BadMessageError:
            self._garbage += 1
            return
        self._report = report
        self.heard = time.monotonic()
        self._reported(report)

    def _log(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if not text:
            return
        self._last_line = text = text[:MOST_LOG_CHARACTERS]
        self._logged += 1
        if self._logged > MOST_LOG_LINES:
            return
        match = _LOG_LINE.match(text)
        name, rest = match.groups() if match else ("INFO", text)
        level = _LEVELS[name]
        if self._is_quiet and level < logging.WARNING:
            level = logging.DEBUG
        logger.log(level, "local_disk: %s", rest)
