"""The entry point of ``swift_media_upload``: runs a command, returns the exit status.

The modules of a command are imported after the command line was parsed, so that
``--help`` and the messages about mistakes appear at once.
"""

from __future__ import annotations

import errno
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NoReturn

from swift_provider.errors import ConfigError, SwiftProviderError
from swift_provider.offload.command.arguments import parser
from swift_provider.offload.command.console import OutputError, console, print_json
from swift_provider.offload.command.exit_status import (
    INTERRUPTED,
    READER_GONE,
    UNREACHABLE,
    WRONG_USAGE,
)

_LOCAL = "swift_provider.offload.command.local_commands"
_SWIFT = "swift_provider.offload.command.swift_commands"
_COMMANDS = {
    "update-db": (_LOCAL, "update_db"),
    "check-deleted": (_LOCAL, "check_deleted"),
    "update": (_LOCAL, "update"),
    "write": (_LOCAL, "write"),
    "upload": (_SWIFT, "upload"),
    "verify": (_SWIFT, "verify"),
    "prune": (_SWIFT, "prune"),
    "restore": (_SWIFT, "restore"),
}


def main(argv: Sequence[str]) -> int:
    """Run one command.

    :param argv: without the program's name.
    :returns: the exit status.
    """
    with console():
        try:
            status = _main(argv)
            sys.stdout.flush()
        except OutputError as error:
            if error.reader_is_gone:
                return READER_GONE
            return _complain(error, UNREACHABLE if _is_full(error.cause) else WRONG_USAGE)
        return status


def _main(argv: Sequence[str]) -> int:
    as_json = "--json" in argv
    try:
        arguments = parser().parse_args(argv)
        as_json = arguments.json
        logging.basicConfig(
            level=arguments.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        with _interruptible():
            from swift_provider.offload.command.inputs import Inputs

            module, name = _COMMANDS[arguments.command]
            return int(getattr(import_module(module), name)(Inputs(arguments)))
    except SystemExit as exited:  # argparse has printed the help.
        return int(exited.code or 0)
    except KeyboardInterrupt:
        error: Exception = SwiftProviderError("interrupted")
        print("Interrupted: nothing is lost; run the command again", file=sys.stderr)
        status = INTERRUPTED
    except (SwiftProviderError, OSError) as caught:
        error = caught
        status = _complain(error, _status_of(error))
    if as_json:
        print_json({"error": str(error)}, status)
    return status


def _status_of(error: SwiftProviderError | OSError) -> int:
    if isinstance(error, ConfigError):
        return WRONG_USAGE
    if isinstance(error, OSError) and not _is_full(error):
        return WRONG_USAGE
    return UNREACHABLE


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _complain(error: Exception, status: int) -> int:
    print(f"swift_media_upload: {error}", file=sys.stderr)
    return status


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt; an ignored SIGINT (``nohup``) stays so."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
