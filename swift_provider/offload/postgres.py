"""Connects to PostgreSQL through psycopg2, with a limit on each wait.

psycopg2 waits inside libpq, where Python handles no signal. So its "wait callback" is set
to one that waits here: Ctrl-C, :meth:`Connection.stop` and a time limit end the wait, and
the server is asked to cancel the query.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Mapping
from typing import Any, NoReturn

import psycopg2
from psycopg2 import errors, extensions

from swift_provider.errors import ConfigError
from swift_provider.offload.database_errors import NO_TABLES, explained_of_connecting

#: Base of all errors of psycopg2.
DriverError = psycopg2.Error

CONNECT_TIMEOUT_SECONDS = 15
#: How long the server may wait for a table that another session has locked.
LOCK_TIMEOUT_SECONDS = 60.0
#: How long the server may take for one query. A scan of a large table takes minutes.
STATEMENT_TIMEOUT_SECONDS = 3600.0
#: How long to wait beyond the server's own limits, and for the end of a cancelled query.
GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.1

#: What libpq says about a failed connection, if that quotes no part of the arguments.
_REASONS = (
    "Connection refused",
    "timeout expired",
    "password authentication failed",
    "no password supplied",
    "could not translate host name",
    "no pg_hba.conf entry",
    "server does not support SSL",
    "certificate verify failed",
    "too many clients",
    "the database system is",
    "No such file or directory",
    "does not exist",
)


class Connection(extensions.connection):
    """A connection whose queries can be cancelled, from any thread.

    :ivar stopped: :meth:`stop` was called, or Ctrl-C was pressed: every query fails.
    :ivar interrupted: Ctrl-C was pressed during a query.
    """

    stopped = False
    interrupted = False

    def stop(self) -> None:
        """Make the current query fail, and each later one. Does not wait for that."""
        self.stopped = True


def connect(args: Mapping[str, Any], where: str) -> Connection:
    """Connect for reading.

    :param args: psycopg2's own arguments; may hold a password.
    :param where: the place in the file, for messages.
    :raises ConfigError: if psycopg2 does not understand the arguments.
    :raises psycopg2.Error: if the server does not accept the connection.
    """
    extensions.set_wait_callback(None)  # libpq's connect_timeout works only without one.
    defaults = {
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        # The kernel notices within two minutes that the server's machine is gone.
        "keepalives_idle": 60,
        "keepalives_interval": 15,
        "keepalives_count": 4,
    }
    try:
        connection = psycopg2.connect(**{**defaults, **args}, connection_factory=Connection)
        connection.set_session(readonly=True)
    except (psycopg2.ProgrammingError, TypeError):
        # The driver's message quotes what it did not understand, perhaps a password.
        raise ConfigError(
            f"{where}: psycopg2 does not understand these arguments; "
            "it takes user, password, dbname, host, port and so on"
        ) from None
    except DriverError as error:
        if not _may_quote_a_password(args):
            raise
        raise psycopg2.OperationalError(_harmless_reason(str(error))) from None
    extensions.set_wait_callback(_wait)
    assert isinstance(connection, Connection)
    return connection


def _may_quote_a_password(args: Mapping[str, Any]) -> bool:
    """Whether a part of an argument other than ``password`` may be a password.

    With an unescaped ``@`` in a DSN's password, libpq takes the rest for the host's name.
    """
    texts = [str(value) for key, value in args.items() if key not in ("password", "passfile")]
    return "dsn" in args or any("@" in text or "://" in text or "=" in text for text in texts)


def _harmless_reason(told: str) -> str:
    reasons = [reason for reason in _REASONS if reason in told] or ["no connection"]
    return (
        f"{', '.join(reasons)}. The driver's full message is not shown, because it may quote the "
        "password. Characters such as @ : / ? # in a connection URL must be percent-encoded, "
        "as in %40; or give user, password, host and dbname each by itself"
    )


def set_limits(cursor: Any) -> None:
    """Set the limits of the transaction that begins now.

    ``SET LOCAL`` ends with the transaction, so it also suits pgbouncer.
    """
    cursor.execute(
        "SET LOCAL lock_timeout = %s; SET LOCAL statement_timeout = %s",
        (round(LOCK_TIMEOUT_SECONDS * 1000), round(STATEMENT_TIMEOUT_SECONDS * 1000)),
    )


def explained(error: Exception) -> str | None:
    """What an error means, in one line; ``None`` if the driver's own words say it."""
    if isinstance(error, errors.LockNotAvailable):
        return (
            f"another session has locked a table for more than {LOCK_TIMEOUT_SECONDS:g} s, "
            "such as an update of Synapse or a VACUUM FULL: run the command again later"
        )
    if isinstance(error, errors.QueryCanceled):
        return f"a query was cancelled, or took more than {STATEMENT_TIMEOUT_SECONDS:g} s"
    if isinstance(error, errors.UndefinedTable):
        return NO_TABLES
    if isinstance(error, psycopg2.Error) and error.diag.message_primary:
        return error.diag.message_primary  # without the query
    if str(error).startswith(("connection to server", "could not translate")):
        return explained_of_connecting(str(error))
    return None


def _cancel(connection: extensions.connection) -> None:
    """Ask the server to cancel the query, without a wait.

    libpq waits for the server without a limit, and psycopg2 keeps all threads waiting meanwhile.
    So a child process does it, which ends after a while in any case. Where none can be made,
    the query is left alone.
    """
    with contextlib.suppress(OSError):
        if os.fork() == 0:
            _cancel_and_exit(connection)


def _cancel_and_exit(connection: extensions.connection) -> NoReturn:
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(round(GRACE_SECONDS))
        # The locks of this run end with it, even if this process does not. libpq connects anew.
        with contextlib.suppress(OSError):
            for name in os.listdir("/dev/fd"):
                with contextlib.suppress(OSError):
                    if int(name) > 2:
                        os.close(int(name))
        connection.cancel()
    finally:
        os._exit(0)


def _wait(connection: extensions.connection) -> None:
    """Wait until the server has answered.

    psycopg2 calls this for each query of each connection in the process, not only for
    those of :func:`connect`.
    """
    ours = connection if isinstance(connection, Connection) else None
    deadline = time.monotonic() + STATEMENT_TIMEOUT_SECONDS + GRACE_SECONDS
    cancelled = False
    while True:
        try:
            state = connection.poll()
            if state == extensions.POLL_OK:
                return
            poll = select.poll()
            reading = state == extensions.POLL_READ
            poll.register(connection.fileno(), select.POLLIN if reading else select.POLLOUT)
            poll.poll(_POLL_SECONDS * 1000)
            if ours is not None and ours.stopped and not cancelled:
                cancelled = True
                deadline = time.monotonic() + GRACE_SECONDS
                _cancel(connection)
        except KeyboardInterrupt:
            if ours is None:
                raise
            ours.interrupted = ours.stopped = True
        if time.monotonic() > deadline:
            raise psycopg2.OperationalError("the server does not answer")
