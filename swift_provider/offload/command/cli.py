"""The entry point of ``swift_media_upload``: runs a command, returns the exit status.

The modules of a command are imported after the command line was parsed, so that
``--help`` and the messages about mistakes appear at once.
"""

from __future__ import annotations

import argparse
import errno
import logging
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from swift_provider.errors import ConfigError, SwiftProviderError
from swift_provider.offload.command.arguments import parse
from swift_provider.offload.command.console import OutputError, console, print_json
from swift_provider.offload.command.exit_status import (
    INTERRUPTED,
    READER_GONE,
    UNREACHABLE,
    WRONG_USAGE,
)
from swift_provider.offload.command.signals import ending_signals
from swift_provider.offload.print_line import print_line

_LOCAL = "swift_provider.offload.command.local_commands"
_SWIFT = "swift_provider.offload.command.swift_commands"
_STATUS = "swift_provider.offload.command.status_command"
_STATS = "swift_provider.offload.command.stats_command"
_COMMANDS = {
    "update-db": (_LOCAL, "update_db"),
    "check-deleted": (_LOCAL, "check_deleted"),
    "update": (_LOCAL, "update"),
    "write": (_LOCAL, "write"),
    "upload": (_SWIFT, "upload"),
    "offload": (_SWIFT, "offload"),
    "verify": (_SWIFT, "verify"),
    "prune": (_SWIFT, "prune"),
    "restore": (_SWIFT, "restore"),
    "sync": (_SWIFT, "sync"),
    "status": (_STATUS, "status"),
    "stats": (_STATS, "stats"),
}
#: The commands whose last run ``status`` shows.
_NOTED = frozenset(
    (
        *("update-db", "check-deleted", "update", "upload", "offload"),
        *("verify", "prune", "restore", "sync"),
    )
)


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
    note = _Note()
    try:
        arguments = parse(argv)
        as_json = arguments.json
        logging.basicConfig(
            level=arguments.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        if arguments.log_level == "warning":
            # The run itself says that it cannot sign in; see swift_waits.
            logging.getLogger("swift_provider.client.identity.token").setLevel(logging.ERROR)
        with ending_signals(_interrupt):
            if arguments.command == "check":
                from swift_provider.offload.command.check_command import check

                return check(arguments)
            from swift_provider.offload.command.inputs import Inputs

            module, name = _COMMANDS[arguments.command]
            note = _Note(arguments)
            inputs = Inputs(arguments)
            status = int(getattr(import_module(module), name)(inputs))
            note.end(status, inputs.summary)
            return status
    except SystemExit as exited:  # argparse has printed the help.
        return int(exited.code or 0)
    except KeyboardInterrupt:
        error: Exception = SwiftProviderError("interrupted")
        print_line("Interrupted: nothing is lost; run the command again", sys.stderr)
        status = INTERRUPTED
    except (SwiftProviderError, OSError) as caught:
        error = caught
        status = _complain(error, _status_of(error))
    note.end(status, str(error))
    if as_json:
        print_json({"error": str(error)}, status)
    return status


class _Note:
    """Notes the run of a command for ``status``.

    :param arguments: ``None`` if the command line was wrong: then nothing is noted.
    """

    def __init__(self, arguments: argparse.Namespace | None = None) -> None:
        self._arguments = arguments
        self._began = time.time()

    def end(self, status: int, text: str) -> None:
        """:param text: what was done, or the error."""
        arguments = self._arguments
        if arguments is None or arguments.command not in _NOTED:
            return
        from swift_provider.offload.command.last_runs import LastRun, note_run

        run = LastRun(self._began, time.time(), status, text)
        note_run(arguments.cache_db, arguments.command, run)


def _status_of(error: SwiftProviderError | OSError) -> int:
    if isinstance(error, ConfigError):
        return WRONG_USAGE
    if isinstance(error, OSError) and not _is_full(error):
        return WRONG_USAGE
    return UNREACHABLE


def _is_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _complain(error: Exception, status: int) -> int:
    print_line(f"swift_media_upload: {error}", sys.stderr)
    return status


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
