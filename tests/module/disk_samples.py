"""What the media on a disk take, sampled each second."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from swift_provider.keeper import load_state
from tests.module.disk_place import LOOK_SECONDS, QUIET_SECONDS, MediaDisk

MIB = 1024 * 1024
SAMPLE_SECONDS = 1.0


@dataclass(frozen=True)
class Sample:
    """:ivar at: as of :func:`time.monotonic`.
    :ivar taken: bytes of all files of media.
    :ivar arrived: bytes of those of them that the sample before did not have.
    """

    at: float
    taken: int
    arrived: int


class Samples:
    """Of one disk, taken by a thread from creation until :meth:`stop`.

    :ivar longest_run: how long the longest run took, in seconds.
    """

    def __init__(self, disk: MediaDisk) -> None:
        self._disk = disk
        self._stop = threading.Event()
        self.all: list[Sample] = []
        self.longest_run = 0.0
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Blocking."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        before: dict[tuple[str, int], int] = {}
        while not self._stop.wait(SAMPLE_SECONDS):
            now, files = time.monotonic(), self._disk.files()
            arrived = sum(taken for file, taken in files.items() if file not in before)
            self.all.append(Sample(now, sum(files.values()), arrived))
            before = files
            state = load_state(str(self._disk.media_store))
            if state is not None and state.run is not None:
                took = state.run["ended"] - state.run["began"]
                self.longest_run = max(self.longest_run, took)

    def outside(self, begin: float, end: float) -> list[Sample]:
        """All samples but those of a time."""
        return [one for one in self.all if not begin <= one.at <= end]

    @property
    def interval(self) -> float:
        """What arrived in so many seconds may be on the disk beyond its budget.

        Nothing goes within the quiet time. Then a run may have begun just before that does not
        see it, and the next one begins at the next look. The child has the lowest priority, and
        the services and the clients of the test want all processors, so a run takes its time.
        """
        return QUIET_SECONDS + LOOK_SECONDS + 2 * self.longest_run

    def excess(self, sample: Sample, limit: int) -> int:
        """By how many bytes a sample is over the limit and what arrived in the interval."""
        since = sample.at - self.interval
        recent = sum(one.arrived for one in self.all if since <= one.at <= sample.at)
        return sample.taken - limit - recent

    def summary(self, limit: int) -> str:
        """What the disk took, second by second, for a person."""
        least = min(-self.excess(one, limit) for one in self.all)
        begin = self.all[0].at
        figures = " ".join(f"{one.at - begin:.0f}s:{one.taken / MIB:.0f}" for one in self.all)
        return (
            f"{limit / MIB:.0f} MiB, interval {self.interval:.0f} s, least distance "
            f"{least / MIB:.1f} MiB: {figures}"
        )
