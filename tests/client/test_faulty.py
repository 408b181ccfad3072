"""The check that each fault which a test adds happens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.client.conftest import Faulty
from tests.servers.faults import Answer, Delay, Fault, Pass


@pytest.mark.parametrize(
    ("make_fault", "times"),
    [
        (lambda: Answer(204), 1),
        (lambda: Answer(204, times=2), 2),
        (lambda: Delay(0.001, times=None), 1),
        (lambda: Pass(times=2), 2),
    ],
)
async def test_a_fault_that_does_not_happen_is_found(
    faulty: Faulty, container: str, make_fault: Callable[[], Fault], times: int
) -> None:
    """A fault counts as unused until it has happened as often as it should."""
    fault = make_fault()
    store = faulty.store(container)
    faulty.proxy.add(fault)
    for _ in range(times):
        assert faulty.proxy.unused_faults() == [fault]
        await store.check()
    assert faulty.proxy.unused_faults() == []


async def test_an_optional_fault_may_not_happen(faulty: Faulty) -> None:
    """A fault that was added as optional never counts as unused."""
    faulty.proxy.add_optional(Answer(503))
    assert faulty.proxy.unused_faults() == []
