"""Synapse's log contexts for a client that knows nothing of them.

Synapse marks each log line with the request, or the background process, that the line
is about, and counts that request's CPU time. It finds both in a log context, which it
sets and resets around each step of a coroutine; see Synapse's ``docs/log_contexts.md``.
The client resumes from the reactor, where no log context is set. So the provider calls
the client through :func:`begin_for_caller`, and a handler on this package's logger
restores the caller's log context for each line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

from synapse.logging.context import LoggingContext, PreserveLoggingContext, current_context
from synapse.module_api import run_in_background
from twisted.internet.defer import Deferred

Result = TypeVar("Result")

#: The log context of the caller of the current operation. Set while
#: :func:`begin_for_caller` starts the operation; all its coroutines inherit it.
_caller: ContextVar[Any] = ContextVar("_caller")


def begin_for_caller(
    function: Callable[..., Coroutine[Any, Any, Result]], *arguments: object
) -> Deferred[Result]:
    """Start a coroutine of the client; its log lines get the caller's log context.

    :returns: fires with the result. Await it through ``make_deferred_yieldable``.
    """
    token = _caller.set(current_context())
    try:
        return run_in_background(function, *arguments)
    finally:
        _caller.reset(token)


def log_for_callers(server_name: str) -> None:
    """Give each log line of this package its caller's log context. May be called again.

    :param server_name: the homeserver's; Synapse's log contexts carry it.
    """
    ours = logging.getLogger("swift_provider")
    if ours.propagate:
        ours.propagate = False
        ours.addHandler(_LogForCallers(LoggingContext(name="swift", server_name=server_name)))


class _LogForCallers(logging.Handler):
    """Passes each log line to the root logger, in the log context of its caller.

    :param shared: the log context of lines without a caller. They are about what all
        operations share, such as the token.
    """

    def __init__(self, shared: LoggingContext) -> None:
        super().__init__()
        self._shared = shared

    def emit(self, record: logging.LogRecord) -> None:
        with PreserveLoggingContext(_caller.get(None) or current_context() or self._shared):
            logging.getLogger().handle(record)
