"""Synapse's log contexts for a client that knows nothing of them.

Synapse marks each log line with the request, or the background process, that the line
is about, and counts that request's CPU time. It finds both in a log context, which it
sets and resets around each step of a coroutine; see Synapse's ``docs/log_contexts.md``.
The client resumes from the reactor, where no log context is set. So the provider calls
the client through :func:`begin_for_caller`, and this package's loggers restore the
caller's log context while handlers get a line.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

from synapse.logging.context import LoggingContext, PreserveLoggingContext, current_context
from synapse.module_api import run_in_background
from twisted.internet.defer import Deferred

Result = TypeVar("Result")

_PACKAGE = "swift_provider"

#: The log contexts of the callers of the current operation. Set while
#: :func:`begin_for_callers` starts the operation; all its coroutines inherit it.
_callers: ContextVar[Collection[Any]] = ContextVar("_callers", default=())


def begin_for_caller(
    function: Callable[..., Coroutine[Any, Any, Result]], *arguments: object
) -> Deferred[Result]:
    """Start a coroutine of the client; its log lines get the caller's log context.

    :returns: fires with the result. Await it through ``make_deferred_yieldable``.
    """
    return begin_for_callers([current_context()], function, *arguments)


def begin_for_callers(
    callers: Collection[Any],
    function: Callable[..., Coroutine[Any, Any, Result]],
    *arguments: object,
) -> Deferred[Result]:
    """The same for several callers.

    :param callers: their log contexts. A log line gets the first that is in there when it
        is logged. Remove those that do not wait any more: their log context may have ended.
    """
    token = _callers.set(callers)
    try:
        return run_in_background(function, *arguments)
    finally:
        _callers.reset(token)


def log_for_callers(server_name: str) -> None:
    """Give each log line of this package its caller's log context. May be called again.

    SIGHUP makes Synapse apply its log configuration again (``logging.config.dictConfig``).
    That replaces the handlers of a logger which the configuration names, so a handler of
    ours would be lost. It leaves the class of a logger alone.

    :param server_name: the homeserver's; Synapse's log contexts carry it.
    """
    if _CallersLogger.shared is None:
        _CallersLogger.shared = LoggingContext(name="swift", server_name=server_name)
    for name, known in list(logging.root.manager.loggerDict.items()):
        ours = name == _PACKAGE or name.startswith(f"{_PACKAGE}.")
        if ours and isinstance(known, logging.Logger):
            known.__class__ = _CallersLogger


class _CallersLogger(logging.Logger):
    """A logger whose handlers, its own and the root logger's, run in the caller's log context.

    :cvar shared: the log context of lines without a caller. They are about what all
        operations share, such as the token.
    """

    shared: ClassVar[LoggingContext | None] = None

    @property
    def disabled(self) -> bool:
        """False: ``disable_existing_loggers`` must not silence the errors of uploads.

        It is true by default, and means each logger that the configuration does not name.
        A level in the configuration still applies.
        """
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def callHandlers(self, record: logging.LogRecord) -> None:
        caller = next(iter(_callers.get()), None)
        context: Any = caller or current_context() or self.shared
        with PreserveLoggingContext(context):
            super().callHandlers(record)
