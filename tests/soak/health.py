"""What Synapse says of the members of its mirror set, by its metrics."""

from __future__ import annotations

import time

import requests

from tests.soak.home import Home
from tests.soak.record import Record

#: A member that is well again has to be in use, and to lack nothing, within this time.
WELL_SECONDS = 90.0
_POLL_SECONDS = 0.5
_UP = "synapse_swift_member_up"
_DEBTS = "synapse_swift_member_debts"
_BUSY = (
    "synapse_swift_uploads_waiting",
    "synapse_swift_exchanges_in_flight",
    "synapse_swift_exchanges_waiting",
)


class Health:
    """Every method blocks.

    :param names: of the members.
    """

    def __init__(self, home: Home, record: Record, names: tuple[str, ...]) -> None:
        self._home = home
        self._record = record
        self._names = names
        #: The longest that it took after each kind of trouble, in seconds.
        self.longest: dict[str, float] = {}

    def is_down(self, name: str) -> bool:
        """Whether Synapse passes this member over."""
        return self._home.by_member(_UP).get(name) == 0

    def most_debts(self) -> float:
        """Of the member that lacks the most."""
        return max(self._home.by_member(_DEBTS).values(), default=0.0)

    def wait_until_well(self, after: str) -> None:
        """Wait until all members are in use and lack nothing; it is wrong if they do not come.

        :param after: what was wrong before.
        """
        began = deadline_began = time.monotonic()
        fewest = float("inf")
        while True:
            try:
                up, debts = self._home.by_member(_UP), self._home.by_member(_DEBTS)
            except requests.RequestException as error:
                self._record.must_not_be(f"after {after}: Synapse shows no metrics: {error}")
                return
            took = time.monotonic() - began
            if all(up.get(name) == 1 and debts.get(name) == 0 for name in self._names):
                self.longest[after] = max(round(took, 1), self.longest.get(after, 0.0))
                return
            if max(debts.values(), default=0.0) < fewest:
                # After a long trouble it takes a while to copy thousands of objects.
                fewest, deadline_began = max(debts.values(), default=0.0), time.monotonic()
            if time.monotonic() - deadline_began > WELL_SECONDS:
                self._record.must_not_be(
                    f"{took:.0f} s after the end of {after}: up {up}, debts {debts}"
                )
                return
            time.sleep(_POLL_SECONDS)

    def wait_until_idle(self) -> None:
        """Wait until Synapse has no upload left to do; only without load.

        An upload by the script of a file that Synapse just uploads fails: the object is there.
        """
        deadline = time.monotonic() + WELL_SECONDS
        while busy := self._busy():
            if time.monotonic() > deadline:
                self._record.must_not_be(f"without load Synapse is busy: {busy}")
                return
            time.sleep(_POLL_SECONDS)

    def _busy(self) -> dict[str, float]:
        metrics = self._home.metrics()
        return {name: metrics[name] for name in _BUSY if metrics[name]}
