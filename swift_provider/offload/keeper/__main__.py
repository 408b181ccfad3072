"""``python -m swift_provider.offload.keeper``: see the package."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from swift_provider._version import __version__
from swift_provider.keeper import BadMessageError, Order, Trouble
from swift_provider.offload.keeper.reporter import Reporter
from swift_provider.offload.keeper.run import do

#: The scheduler's lowest priority, which is also the lowest for the disk.
_NICE = 19


def main() -> int:
    """:returns: the exit status: 0 after a last report, however the run went."""
    # Ctrl-C goes to all processes of a terminal, and a service manager may send SIGTERM to all
    # of a service, or the SIGHUP by which Synapse reads its log configuration again. Synapse's
    # end closes our standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _step_back()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # It tells each retry, in an outage again in each run. The report tells the outage.
    logging.getLogger("swift_provider.client").setLevel(logging.WARNING)
    # Nothing but reports may reach the module's end of this pipe.
    reporter = Reporter(os.dup(1))
    os.dup2(2, 1)
    line = _read_line()
    threading.Thread(target=_end_with_module, daemon=True).start()
    try:
        order = Order.from_line(line)
    except BadMessageError as error:
        reporter.trouble(Trouble.VERSION, _restart(str(error)))
    else:
        if order.version == __version__:
            os.environ.clear()
            os.environ.update(order.environment)
            do(order, reporter)
        else:
            reporter.trouble(Trouble.VERSION, _restart(f"{order.version} became {__version__}"))
    reporter.finish()
    return 0


def _step_back() -> None:
    """Let Synapse, and everything else, go first.

    Linux shares the processors among sessions first (sched(7), "The autogroup feature"), and a
    nice value counts only within one. So this process needs a session of its own, and a nice
    value for that, or it takes its share from Synapse.
    """
    os.nice(_NICE)
    with suppress(OSError):  # Another system, or a container without /proc.
        os.setsid()
        Path("/proc/self/autogroup").write_text(str(_NICE))


def _restart(what: str) -> str:
    return f"this package was changed while Synapse ran ({what}): restart Synapse"


def _read_line() -> bytes:
    """The first line of the standard input; without its end if it was closed before."""
    line = b""
    while not line.endswith(b"\n"):
        # The module writes nothing after the line.
        data = os.read(0, 65536)
        if not data:
            break
        line += data
    return line


def _end_with_module() -> None:
    """End the process when the module's end of the pipe is closed."""
    while os.read(0, 1):
        pass
    # Every step can be cut short, so there is nothing to clean up.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
