"""A timer that goes by a clock which nobody sets."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from swift_provider.module.monotonic_call import MonotonicCall
from tests.client.trouble import until


@pytest.mark.parametrize("threads", [True, False])
async def test_it_calls_once(monkeypatch: pytest.MonkeyPatch, threads: bool) -> None:
    """On the reactor, also if the system has no more threads; not if it was cancelled."""
    from twisted.internet import reactor  # pytest-twisted chooses it

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    calls: list[Any] = []
    with monkeypatch.context() as patch:
        if not threads:
            patch.setattr(threading.Thread, "start", refuse)
        cancelled = MonotonicCall(reactor, 0.01, lambda: calls.append("cancelled"))
        cancelled.cancel()
        cancelled.cancel()
        call = MonotonicCall(reactor, 0.05, lambda: calls.append(threading.current_thread()))
    await until(lambda: bool(calls))
    assert calls == [threading.current_thread()]
    call.cancel()
