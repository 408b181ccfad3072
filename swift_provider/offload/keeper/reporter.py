"""Sends the module what a run has done so far."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import replace

from swift_provider.keeper import Report, Task, Trouble
from swift_provider.offload.jobs.upload_tally import UploadTally

#: The module's metrics follow a long run at this pace, and it ends a process that is silent.
REPORT_SECONDS = 5.0
_REASONS, _REASON_CHARACTERS, _OTHER = 20, 200, "other reasons"
#: A run that works uses more processor time than this between two reports, without what the
#: reports take: hashing a file of 1 MB takes as much. One that waits for a disk that hangs uses
#: none.
_WORK_SECONDS = 0.005


class Reporter:
    """One run's report, sent every :data:`REPORT_SECONDS` by a thread.

    :param descriptor: the pipe to the module.
    :ivar report: what is known so far.
    """

    def __init__(self, descriptor: int) -> None:
        self.report = Report()
        self._descriptor = descriptor
        self._began = self._moved = time.monotonic()
        self._worked = 0.0
        self._tallies: list[tuple[UploadTally, bool]] = []
        self._sending = threading.Lock()
        self._finished = threading.Event()
        threading.Thread(target=self._keep_sending, daemon=True).start()

    def follow(self, tally: UploadTally, *, of_orphans: bool = False) -> None:
        """Add the figures of a job to the report, from now on."""
        self._tallies.append((tally, of_orphans))

    def trouble(self, kind: Trouble, text: str) -> None:
        """Note what was not done."""
        before = self.report.troubles.get(kind)
        if before is None:
            self.report.troubles[kind] = text
        elif text not in before:
            self.report.troubles[kind] = f"{before}. {text}"

    def done(self, task: Task) -> None:
        """Note a task that was done to its end."""
        self.report.done.append(task)

    def fail(self, reason: str, count: int = 1) -> None:
        """Count failures."""
        self.report.failed[reason] = self.report.failed.get(reason, 0) + count

    def answered(self, service: Trouble) -> None:
        """Note a service that the run spoke with."""
        if service not in self.report.answered:
            self.report.answered.append(service)

    def freed(self) -> int:
        """The bytes that were freed so far."""
        return self.report.freed + sum(tally.freed for tally, _ in self._tallies)

    def finish(self) -> None:
        """Send the last report."""
        self._finished.set()
        self._send(final=True)

    def _keep_sending(self) -> None:
        while not self._finished.wait(REPORT_SECONDS):
            self._look_for_work()
            self._send(final=False)

    def _look_for_work(self) -> None:
        # The processor time of a step is not known before it ends; that of the process is.
        worked = time.process_time() - time.thread_time()
        if worked - self._worked > _WORK_SECONDS:
            self._worked, self._moved = worked, time.monotonic()

    def _send(self, *, final: bool) -> None:
        with self._sending:
            if not final and self._finished.is_set():
                return
            line = self._sum(final, time.monotonic() - self._began).to_line()
            while line:
                line = line[os.write(self._descriptor, line) :]

    def _sum(self, final: bool, seconds: float) -> Report:
        # Copies, because the run changes them meanwhile.
        report = replace(
            self.report,
            done=list(self.report.done),
            troubles=dict(self.report.troubles),
            answered=list(self.report.answered),
            idle=round(time.monotonic() - self._moved, 3),
        )
        report.final, report.seconds = final, round(seconds, 3)
        failed, skipped = Counter(dict(report.failed)), Counter(dict(report.skipped))
        for tally, of_orphans in list(self._tallies):
            report.looked_at += tally.media
            report.uploaded += tally.uploaded
            report.uploaded_bytes += tally.uploaded_bytes
            report.removed += tally.deleted
            report.freed += tally.freed
            report.orphans += tally.deleted if of_orphans else 0
            failed.update(dict(tally.failed))
            for name, member in tally.members.items():
                failed.update({f"not in {name}": member.lacking} if member.lacking else {})
            skipped.update(dict(tally.skipped))
        report.failed, report.skipped = _shortened(failed), _shortened(skipped)
        if report.on_disk is not None:
            report.on_disk = max(0, report.on_disk - report.freed)
        if report.files is not None:
            report.files = max(0, report.files - report.removed)
        return report


def _shortened(reasons: Counter[str]) -> dict[str, int]:
    """The most frequent reasons, and the rest as one: some name a file or a segment."""
    shown = dict(reasons.most_common(_REASONS))
    rest = reasons.total() - sum(shown.values())
    short: Counter[str] = Counter({_OTHER: rest} if rest else {})
    for reason, count in shown.items():
        short[reason[:_REASON_CHARACTERS]] += count
    return dict(short)
