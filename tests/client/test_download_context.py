"""The context variables of the caller, in the later steps of a download."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.client.conftest import Faulty, PutObject, Sink
from tests.client.trouble import LARGE, LONG_PATIENCE, begin, content_of, soon
from tests.servers.faults import Answer, Cut, in_response

caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Callers(logging.Handler):
    """The caller of each line about a retry."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "retrying" in record.getMessage():
            self.seen.append(caller.get())


@pytest.fixture
def callers(caplog: pytest.LogCaptureFixture) -> Iterator[Callers]:
    package = logging.getLogger("swift_provider")
    handler = Callers()
    package.addHandler(handler)
    with caplog.at_level(logging.INFO, "swift_provider"):
        yield handler
    package.removeHandler(handler)


def called_by(name: str, operation: Any) -> Deferred[Any]:
    """Begin a coroutine on behalf of a caller."""

    def run() -> Deferred[Any]:
        caller.set(name)
        return begin(operation)

    return copy_context().run(run)


async def test_a_body_that_breaks_is_resumed_for_its_caller(
    faulty: Faulty, container: str, put_object: PutObject, callers: Callers
) -> None:
    """Each retry is the caller's, though the body broke outside the caller's coroutine."""
    await put_object(content_of(LARGE))
    store = faulty.store(container, patience=LONG_PATIENCE)
    faulty.proxy.add(
        Cut(in_response(LARGE // 3), match=("GET", "")),
        Answer(503, match=("GET", "")),
        Cut(in_response(LARGE // 3), match=("GET", "")),
    )
    download = await soon(called_by("GET-17", store.get("object")))
    sink = Sink()
    await soon(download.deliver(sink))
    assert sink.content == content_of(LARGE)
    assert callers.seen == ["GET-17"] * 3
    assert caller.get() == "nobody"


async def test_a_slow_consumer_resumes_for_its_caller(
    faulty: Faulty,
    container: str,
    put_object: PutObject,
    callers: Callers,
) -> None:
    """So are those of a download that had let go of its connection."""
    await put_object(content_of(LARGE))
    store = faulty.store(container, patience=LONG_PATIENCE)
    download = await soon(called_by("GET-18", store.get("object")))
    faulty.proxy.add(Answer(503, match=("GET", "")))
    sink = Sink()
    await soon(download.deliver(sink, range(1000, LARGE)))
    assert sink.content == content_of(LARGE)[1000:]
    assert callers.seen == ["GET-18"]
