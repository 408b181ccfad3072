"""What a person reads about the disk in Synapse's log: what was done, and what is wrong.

What is wrong is logged once, not after each run: again only if it has another text, or if
it was over in between. It is over when what it prevented was done; an outage only when a run
has spoken with the service again. Two texts are the same if they differ in numbers, paths and
transaction ids only.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from swift_provider.config import LocalDiskSettings
from swift_provider.keeper import OVER_FOR_NOW, Report, Task, Trouble
from swift_provider.sizes import readable

logger = logging.getLogger(__name__)

#: Nobody has to do anything about these: they end by themselves.
_OUTAGES = {Trouble.SWIFT: "Swift", Trouble.DATABASE: "the database"}
#: A word with a number, such as a transaction id, or with a path.
_VARIES = re.compile(r"[\d/]")
_OVER = "over"
_LOOK = "look"
_SILENT, _STUCK, _DIED = "silent", "stuck", "died"
_UNPRUNED = "unpruned"
#: They concern one child process: a run that ends in order ends them.
_OF_A_PROCESS = (_SILENT, _STUCK, _DIED)
#: What a run says while one of these lasts was said by the run before.
_REPEAT = {*_OF_A_PROCESS, *(trouble.value for trouble in Trouble)}


@dataclass
class _Problem:
    """:ivar prevented: the tasks that were not done.
    :ivar said: what was logged about it.
    :ivar is_open: whether it prevents anything, as far as is known.
    """

    reason: str
    text: str
    since: float
    prevented: set[Task] = field(default_factory=set)
    said: set[str] = field(default_factory=set)
    is_open: bool = True


class KeeperLog:
    """The log lines about one media store.

    :param where: begins each line, such as ``"local_disk, container media"``.
    """

    def __init__(self, where: str, limits: LocalDiskSettings) -> None:
        self._where = where
        self._limits = limits
        self._problems: dict[str, _Problem] = {}

    @property
    def problems(self) -> list[dict[str, Any]]:
        """What is wrong now, for the state file."""
        return [
            {"reason": problem.reason, "text": problem.text, "since": problem.since}
            for problem in self._problems.values()
            if problem.is_open
        ]

    @property
    def repeats(self) -> bool:
        """Whether the next run may say again what the last one said."""
        return not _REPEAT.isdisjoint(self._problems)

    @property
    def _budget(self) -> str:
        """The limits of the disk in parentheses; empty if there are none."""
        told = []
        if self._limits.max_size is not None:
            told.append(f"at most {readable(self._limits.max_size)} of media")
        least = self._limits.min_free
        if least is not None:
            share = f"{least:.1%}" if isinstance(least, float) else readable(least)
            told.append(f"at least {share} free")
        return f" ({', '.join(told)})" if told else ""

    def elected(self, media_store: str) -> None:
        """This process now holds the lock."""
        logger.info(
            "%s: this process keeps %s within its budget%s", self._where, media_store, self._budget
        )

    def not_elected(self, media_store: str, other: str | None) -> None:
        """Another process holds the lock."""
        logger.info(
            "%s: %s keeps %s within its budget; this process does so once that one has ended",
            self._where,
            other or "another process",
            media_store,
        )

    def lost(self, media_store: str, other: str | None) -> None:
        """This process no longer holds the lock.

        :param other: who does; ``None`` if the disk does not tell.
        """
        logger.info(
            "%s: this process no longer keeps %s within its budget: %s",
            self._where,
            media_store,
            f"{other} does" if other else "it has lost the lock, and tries to get it again",
        )

    def disk_hangs(self, media_store: str, seconds: float) -> None:
        """A call that asks for the disk's free space, or the lock, does not return."""
        logger.warning(
            "%s: %s hangs: it has not answered for %d seconds, so nothing is removed from it now",
            self._where,
            media_store,
            seconds,
        )

    def disk_answers(self, media_store: str) -> None:
        """That call has returned."""
        logger.info("%s: %s answers again", self._where, media_store)

    def disk_failed(self, media_store: str, error: OSError, now: float) -> None:
        """The lock or the free space cannot be had."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "Free some space"
        elif error.errno in (errno.EACCES, errno.EPERM):
            remedy = "Synapse's user must be able to write there"
        else:
            remedy = "Check the disk and its mount"
        text = f"cannot use {media_store}: {error}. {remedy}"
        self._say(logging.ERROR, _LOOK, text, now)

    def disk_works(self) -> None:
        """They can be had."""
        self._problems.pop(_LOOK, None)

    def prunes_elsewhere(self, name: str) -> None:
        """Synapse's configuration names another process for pruning."""
        logger.info(
            "%s: prune is left to the process %s (media_instance_running_background_jobs)",
            self._where,
            name,
        )

    def unpruned(self, name: str, seconds: float, now: float) -> None:
        """The process that should prune does not."""
        self._say(
            logging.WARNING,
            _UNPRUNED,
            f"nothing was pruned for {seconds / 3600:.0f} hours: is there a process {name}, with "
            "this entry in its configuration? media_instance_running_background_jobs names it",
            now,
        )

    def pruned(self) -> None:
        """It does."""
        self._problems.pop(_UNPRUNED, None)

    def silent(self, seconds: float, now: float) -> None:
        """The child process reports nothing. It is ended."""
        self._say(
            logging.WARNING,
            _SILENT,
            "the process that looks through the disk has not reported anything for "
            f"{seconds:.0f} seconds, so it is ended",
            now,
        )

    def stuck(self, seconds: float, now: float) -> None:
        """The child process reports that it gets no further."""
        self._say(
            logging.WARNING,
            _STUCK,
            f"the process that looks through the disk has got no further for {seconds:.0f} "
            "seconds: the disk, the database or Swift does not answer it",
            now,
        )

    def goes_on(self) -> bool:
        """The child process has got further.

        :returns: whether it had been stuck.
        """
        return self._problems.pop(_STUCK, None) is not None

    def died(self, how: str, now: float) -> None:
        """The child process died."""
        text = f"the process that looks through the disk died: {how}"
        self._say(logging.WARNING, _DIED, text, now)

    def ended(self, report: Report, tasks: Iterable[Task], over: int, now: float) -> None:
        """A run ended in order.

        :param report: the last one.
        :param tasks: what it was to do.
        :param over: by how many bytes the disk is over its limits.
        """
        did = report.removed or report.uploaded or report.pruned
        if did or ((report.looked_at or report.failed) and not report.troubles):
            logger.info("%s: %s", self._where, self._summary(report))
        for reason in _OF_A_PROCESS:
            self._problems.pop(reason, None)
        self._close(report)
        undone = set(tasks) - set(report.done)
        for trouble, text in report.troubles.items():
            self._trouble(trouble, text, undone or set(tasks), over, now)
        if Task.KEEP in report.done or (Task.KEEP in undone and not report.troubles):
            self._within(report, now)
        elif Task.KEEP in undone and _OVER in self._problems:
            # What kept an earlier run from its aim need not be what does so now.
            self._problems[_OVER].is_open = False

    def _trouble(
        self, trouble: Trouble, text: str, undone: set[Task], over: int, now: float
    ) -> None:
        if trouble in _OUTAGES:
            problem = self._outage(trouble, text.rstrip("."), undone, over, now)
        elif trouble is Trouble.BUSY:
            excess = f". {_budget(over)}" if over and Task.KEEP in undone else ""
            problem = self._say(logging.INFO, trouble.value, text + excess, now, text, gist="")
        else:
            problem = self._say(logging.ERROR, trouble.value, text, now)
        problem.prevented |= undone

    def _outage(
        self, trouble: Trouble, text: str, undone: set[Task], over: int, now: float
    ) -> _Problem:
        """Log the first text of an outage, and once that the disk has come over its budget."""
        before = self._problems.get(trouble.value)
        prevented = undone if before is None else undone | before.prevented
        line = f"{text}. The next run tries again."
        if not over or Task.KEEP not in prevented:
            gist = _OVER if before is not None and _OVER in before.said else ""
            return self._say(logging.WARNING, trouble.value, text, now, line, gist=gist)
        budget = _budget(over)
        full = f"{text}. {budget}"
        return self._say(logging.WARNING, trouble.value, full, now, f"{line} {budget}.", gist=_OVER)

    def _within(self, report: Report, now: float) -> None:
        """Whether a run that nothing else prevented came within the limits."""
        if not report.over:
            self._problems.pop(_OVER, None)
            return
        reasons = []
        if report.failed:
            failed = ", ".join(f"{why} ({count})" for why, count in sorted(report.failed.items()))
            reasons.append(f"files failed: {failed}")
        if report.quiet:
            reasons.append(
                f"{readable(report.quiet)} of media were accessed in the last minutes, "
                "so they stay for now"
            )
        why = "; ".join(reasons) or "no more media can be removed. Other files may fill the disk"
        excess = readable(report.over)
        text = f"{excess} over the budget: {why}"
        line = f"the disk is still {excess} over its budget: {why}"
        problem = self._say(logging.WARNING, _OVER, text, now, line)
        by_itself = report.quiet >= report.over and not report.failed
        problem.reason = OVER_FOR_NOW if by_itself else _OVER

    def _say(
        self,
        level: int,
        reason: str,
        text: str,
        now: float,
        line: str | None = None,
        *,
        gist: str | None = None,
    ) -> _Problem:
        """Something is wrong: log it unless it was logged before.

        :param reason: what kind of problem it is.
        :param text: for the state file.
        :param line: for the log, if it differs.
        :param gist: what may not have been logged before; ``None`` for that of the text.
        """
        problem = self._problems.setdefault(reason, _Problem(reason, text, now))
        problem.text, problem.is_open = text, True
        gist = _gist(text) if gist is None else gist
        if gist not in problem.said:
            problem.said.add(gist)
            logger.log(level, "%s: %s", self._where, line or text)
        return problem

    def _close(self, report: Report) -> None:
        """Forget what no longer prevents anything."""
        for trouble in Trouble:
            problem = self._problems.get(trouble.value)
            if problem is None or trouble in report.troubles or not report.done:
                continue
            problem.prevented -= set(report.done)
            if problem.prevented:
                continue
            # What the outage prevented may have needed that service no longer.
            problem.is_open = False
            if trouble not in _OUTAGES:
                del self._problems[trouble.value]
            elif trouble in report.answered:
                del self._problems[trouble.value]
                logger.info("%s: %s works again", self._where, _OUTAGES[trouble])

    def _summary(self, report: Report) -> str:
        parts = [f"looked at {report.looked_at} media"]
        if report.uploaded:
            parts.append(
                f"uploaded {report.uploaded} files ({readable(report.uploaded_bytes)}) "
                "that Swift lacked"
            )
        parts.append(f"removed {report.removed} files ({readable(report.freed)})")
        if report.orphans:
            parts.append(f"{report.orphans} of them unknown to Synapse")
        if report.pruned:
            parts.append(f"deleted {report.pruned} objects from Swift")
        if report.failed:
            reasons = ", ".join(f"{count} {why}" for why, count in sorted(report.failed.items()))
            parts.append(f"failed: {reasons}")
        text = f"{', '.join(parts)}, in {report.seconds:.0f} s"
        if report.on_disk is not None:
            text += f". Media now take {readable(report.on_disk)}"
            if self._limits.max_size is not None:
                text += f" of {readable(self._limits.max_size)}"
        return text


def _budget(over: int) -> str:
    return f"Nothing is removed meanwhile, and the disk is {readable(over)} over its budget"


def _gist(text: str) -> str:
    """What is the same in two messages about the same problem."""
    return " ".join(word for word in text.split() if not _VARIES.search(word))
