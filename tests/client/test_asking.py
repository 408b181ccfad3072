"""How long Swift takes to answer."""

from __future__ import annotations

from twisted.internet.task import Clock

from swift_provider.client import Asking
from swift_provider.errors import ServerBusyError, Target

BUSY = Target("GET", "media", "name").error(ServerBusyError, "busy")


def test_an_operation_that_needs_another_request() -> None:
    """Each answer has its own time, and waiting for a slot does not count."""
    clock = Clock()
    asking = Asking(clock)
    clock.advance(1)
    assert (asking.asked, asking.spent(), asking.unanswered(), asking.silent()) == (False, 0, 0, 0)
    asking.attempt_begins()
    clock.advance(2)
    assert (asking.asked, asking.spent(), asking.unanswered(), asking.silent()) == (True, 2, 2, 2)
    asking.goes_on()
    clock.advance(4)
    assert (asking.answered, asking.spent(), asking.unanswered(), asking.silent()) == (
        True,
        2,
        0,
        0,
    )
    asking.attempt_begins()
    clock.advance(8)
    assert (asking.spent(), asking.unanswered(), asking.silent()) == (10, 8, 8)


def test_an_operation_of_several_requests() -> None:
    """After the first one is answered, the second has its own time."""
    clock = Clock()
    asking = Asking(clock)
    asking.attempt_begins()
    clock.advance(1)
    asking.goes_on()
    asking.request_ended()
    clock.advance(2)
    assert (asking.answered, asking.spent(), asking.unanswered()) == (False, 1, 0)
    asking.attempt_begins()
    clock.advance(4)
    assert (asking.spent(), asking.unanswered(), asking.silent()) == (5, 4, 4)


def test_a_retry() -> None:
    """Until the next attempt begins Swift is not silent, but the time goes on."""
    clock = Clock()
    asking = Asking(clock)
    asking.attempt_begins()
    clock.advance(1)
    asking.retry_waits(BUSY)
    clock.advance(2)
    asking.attempt_begins()
    clock.advance(4)
    assert (asking.answered, asking.spent(), asking.unanswered(), asking.silent()) == (
        False,
        7,
        7,
        4,
    )


def test_a_clock_that_is_set_back() -> None:
    """The time begins anew: nobody waits for as long as it was set back."""
    clock = Clock()
    clock.advance(100)
    asking = Asking(clock)
    asking.attempt_begins()
    clock.rightNow -= 50
    assert (asking.spent(), asking.unanswered()) == (0, 0)
    clock.advance(3)
    assert (asking.spent(), asking.unanswered()) == (3, 3)
