"""The memory of containers that exist."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from swift_provider.client.seen_containers import CONTAINER_SEEN_SECONDS, SeenContainers


@pytest.fixture
def clock() -> Clock:
    return Clock()


def recently(seen: SeenContainers, clock: Clock, container: str) -> bool:
    """As for a request that is sent now."""
    return seen.recently(container, clock.seconds())


@pytest.fixture
def seen(clock: Clock) -> SeenContainers:
    seen = SeenContainers(clock)
    seen.use("here")
    seen.add("media", "here")
    return seen


def test_a_container_is_remembered_for_half_a_minute(seen: SeenContainers, clock: Clock) -> None:
    """The time begins with the latest answer."""
    assert not recently(seen, clock, "other")
    clock.advance(CONTAINER_SEEN_SECONDS - 1)
    assert recently(seen, clock, "media")
    seen.add("media", "here")
    clock.advance(CONTAINER_SEEN_SECONDS - 1)
    assert recently(seen, clock, "media")
    clock.advance(1)
    assert not recently(seen, clock, "media")


def test_it_does_not_outlive_a_step_of_the_clock(seen: SeenContainers, clock: Clock) -> None:
    """After the clock was set back nobody knows how long ago it was seen."""
    clock.rightNow -= 10
    assert not recently(seen, clock, "media")


def test_another_storage_url_is_another_account(seen: SeenContainers, clock: Clock) -> None:
    """All is forgotten, and a late answer of the old account says nothing of the new one."""
    seen.use("here")
    assert recently(seen, clock, "media")
    seen.use("there")
    assert not recently(seen, clock, "media")
    seen.add("media", "here")
    assert not recently(seen, clock, "media")


def test_what_was_seen_later_says_nothing(seen: SeenContainers, clock: Clock) -> None:
    """About a request that was sent before."""
    sent = clock.seconds() - 1
    assert not seen.recently("media", sent)


def test_a_container_can_be_forgotten(seen: SeenContainers, clock: Clock) -> None:
    """Also one that was never seen."""
    seen.forget("media")
    seen.forget("other")
    assert not recently(seen, clock, "media")
