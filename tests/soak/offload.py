"""The runs of ``swift_media_upload`` for a homeserver, beside its load."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable

from tests.soak.home import Home
from tests.soak.record import Record

#: Between two runs.
PAUSE_SECONDS = 2.0
#: ``prune`` leaves objects alone that are younger, in place of a day. An upload that is
#: still in flight after that long would lose its segments.
GRACE_SECONDS = 120.0
#: Of all objects; more than that is what prune takes for a wrong database.
_PRUNE = ("prune", "--delete", "--max-share", "0.5")
#: The script's own statuses: some files failed; Swift not reachable; asked to stop.
_MAY_FAIL = (1, 3, 130)
#: Lines of the summaries, by command, and what they are counted as.
_COUNTED = {
    "upload": {
        "Uploaded": "uploaded by the script",
        "Replaced damaged objects": "replaced by the script",
    },
    "restore": {"Restored": "restored by the script"},
    "prune": {
        "Deleted": "pruned by the script",
        "Left alone, of another homeserver": "left to the other homeserver by prune",
    },
}


class Offload:
    """One homeserver's runs. Every method blocks."""

    def __init__(self, home: Home, record: Record) -> None:
        self._home = home
        self._record = record
        store = str(home.media_store)
        #: The arguments of a run that leaves no file on the disk.
        self.empty = ("upload", store, "--all", "--delete")
        self._cycle = itertools.cycle(
            [
                ("update", store, "5s"),
                ("upload", store, "--delete"),
                _PRUNE,
                ("verify", store),
                self.empty,
                ("update", store, "5s"),
                ("upload", store, "--delete"),
                ("restore", store),
            ]
        )

    def run(self, until: float, before_each: Callable[[], None] = lambda: None) -> None:
        """One run after the other.

        :param until: when the last one is asked to stop, as of :func:`time.monotonic`.
        :param before_each: called before each run.
        """
        while time.monotonic() < until:
            before_each()
            arguments = next(self._cycle)
            grace = GRACE_SECONDS if arguments[0] == "prune" else None
            status, output = self._home.script(*arguments, until=until, grace_seconds=grace)
            what = f"script {arguments[0]}"
            self._count(arguments[0], output)
            if status is None:
                self._record.fail(f"{what}: stopped")
            elif status == 0:
                self._record.count(what)
            elif status in _MAY_FAIL:
                self._record.fail(f"{what}: exit status {status}")
            else:
                self._record.must_not_be(f"{what} ended with {status}: {output[-1500:]}")
            time.sleep(max(0.0, min(PAUSE_SECONDS, until - time.monotonic())))

    def empty_disk(self) -> None:
        """Take all to Swift while clients go on; a file that they delete meanwhile may fail."""
        status, output = self._home.script(*self.empty)
        self._count("upload", output)
        if status not in (0, 1):
            self._record.must_not_be(f"upload ended with {status}: {output[-1500:]}")

    def last(self) -> None:
        """With a good network again everything has to work."""
        self.has_to_work(*self.empty)
        self.has_to_work("verify", str(self._home.media_store))
        self.has_to_work(*_PRUNE, grace_seconds=0.0)

    def has_to_work(self, *arguments: str, grace_seconds: float | None = None) -> None:
        """A run that has to end with status 0."""
        status, output = self._home.script(*arguments, grace_seconds=grace_seconds)
        self._count(arguments[0], output)
        if status != 0:
            self._record.must_not_be(f"{arguments[0]} ended with {status}: {output[-1500:]}")

    def _count(self, command: str, output: str) -> None:
        for line, what in _COUNTED.get(command, {}).items():
            told = re.search(rf"^{line}: (\d+)", output, re.M)
            self._record.count(what, int(told[1]) if told else 0)
