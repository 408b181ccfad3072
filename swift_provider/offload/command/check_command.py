"""The command ``check``: all that can be known before Synapse is restarted.

It reports what is wrong with the configuration files itself, so it does not get what other
commands read from them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.python.failure import Failure

from swift_provider.client import Threads
from swift_provider.config import LocalDiskSettings
from swift_provider.offload.checks.configuration import (
    Entry,
    keeps_local_media,
    largest_media,
    read_entries,
    read_homeserver,
)
from swift_provider.offload.checks.database import check_database
from swift_provider.offload.checks.findings import Finding, Findings, Verdict
from swift_provider.offload.checks.media_store import check_media_store
from swift_provider.offload.checks.place import Asked, PlaceCheck, judge_mirrors
from swift_provider.offload.checks.steps import ALL_STEPS_SECONDS
from swift_provider.offload.checks.synapse import check_synapse
from swift_provider.offload.command.console import print_json
from swift_provider.offload.command.exit_status import (
    DONE,
    INTERRUPTED,
    UNREACHABLE,
    WRONG_USAGE,
)
from swift_provider.offload.command.homeserver import Homeserver
from swift_provider.offload.command.run_job import run
from swift_provider.offload.print_line import print_line

logger = logging.getLogger(__name__)

#: Who warns of what the findings say in any case.
_SAID_BY_FINDINGS = ("keystoneauth", "swift_provider.client.identity")


def check(arguments: argparse.Namespace) -> int:
    """``check [BASE_PATH]``."""
    if arguments.log_level == "warning":
        for name in _SAID_BY_FINDINGS:
            logging.getLogger(name).setLevel(logging.ERROR)
    first = Findings()
    homeserver = read_homeserver(first, arguments.homeserver_config_path)
    checks = _Checks()
    if homeserver is not None:
        checks.add(homeserver, read_entries(first, homeserver), arguments.base_path)
    checks.block("Synapse", check_synapse)
    found = first.found + [one for some in _run(checks) for one in some.found]
    status = INTERRUPTED if checks.stopped else _status_of(found)
    if arguments.json:
        rows = [
            {"subject": one.subject, "verdict": one.verdict.value, "text": one.text}
            for one in found
        ]
        print_json({"checks": rows}, status)
        return status
    lines = [str(one) for one in found if not (arguments.quiet and one.verdict is Verdict.OK)]
    if not (arguments.quiet or checks.stopped):
        lines.append(_summary(found))
    if lines:
        print_line("\n".join(lines))
    return status


def _summary(found: Sequence[Finding]) -> str:
    counts = Counter(one.verdict for one in found)
    wrong, notes = counts[Verdict.WRONG], counts[Verdict.NOTE]
    if not (wrong or notes):
        return f"All is well: {len(found)} checks"
    told = [f"{wrong or 'nothing'} wrong"]
    if notes:
        told.append(f"{notes} note{'s' if notes > 1 else ''}")
    return ", ".join(told).capitalize()


def _status_of(found: Sequence[Finding]) -> int:
    wrong = [one for one in found if one.verdict is Verdict.WRONG]
    if not wrong:
        return DONE
    return UNREACHABLE if all(one.by_server for one in wrong) else WRONG_USAGE


@dataclass(frozen=True)
class _Blocking:
    """A check that runs in a thread.

    :ivar subject: of the finding that it did not end.
    """

    subject: str
    check: Callable[[], Findings]


class _Checks:
    """The checks that wait for something; all run at the same time.

    :ivar left: the test objects that may be in Swift.
    """

    def __init__(self) -> None:
        self.left: set[str] = set()
        self.stopped = False
        self._places: list[PlaceCheck] = []
        self._blocking: list[_Blocking] = []
        self._waiting: list[Deferred[Findings]] = []

    def add(
        self,
        homeserver: Homeserver,
        entries: Sequence[Entry],
        base_path: str | None,
    ) -> None:
        """Add the checks of what ``homeserver.yaml`` names."""
        largest = largest_media(homeserver)
        places = [(entry, member) for entry in entries for member in entry.settings.members]
        labels = Counter(member.label for _, member in places)
        for entry, member in places:
            label = member.label
            if labels[label] > 1:
                label += f"/{member.container}/{member.prefix}".rstrip("/")
            prefix = f"{label}: " if len(places) > 1 else ""
            asked = Asked(member, prefix, entry.where, largest, entry.stores)
            self._places.append(PlaceCheck(reactor, asked, self.left))
        self.block("database", partial(check_database, homeserver))
        if keeps_local_media(homeserver):
            every = [entry.settings.local_disk for entry in entries]
            limits = next((one for one in every if one is not None), None)
            self.block("media store", _store_check(homeserver, base_path, limits))

    def block(self, subject: str, check: Callable[[], Findings]) -> None:
        """Add a check that blocks."""
        self._blocking.append(_Blocking(subject, check))

    async def run(self) -> list[Findings]:
        """Run all of them at the same time."""
        threads = Threads(reactor, "check")
        places = [Deferred.fromCoroutine(place.run()) for place in self._places]
        self._waiting = [
            Deferred.fromCoroutine(self._in_thread(threads, one)) for one in self._blocking
        ]
        try:
            # All of them, also if one failed: the others remove what they stored.
            ended = await DeferredList([*places, *self._waiting], consumeErrors=True)
            try:
                mirrors = await judge_mirrors(self._places)
            except Exception:
                mirrors = _broken("mirrors", Failure())
        finally:
            threads.stop()
            for place in self._places:
                await place.close()
        subjects = [f"{place.prefix}Swift" for place in self._places]
        subjects += [one.subject for one in self._blocking]
        found = [
            _broken(subject, result) if isinstance(result, Failure) else result
            for subject, (_, result) in zip(subjects, ended, strict=True)
        ]
        found.insert(len(places), mirrors)
        return found

    async def _in_thread(self, threads: Threads, one: _Blocking) -> Findings:
        try:
            return await threads.run(one.check).addTimeout(ALL_STEPS_SECONDS, reactor)
        except DeferredTimeoutError:
            findings = Findings()
            findings.wrong(
                one.subject,
                f"no answer within {ALL_STEPS_SECONDS:.0f} seconds: check the server, the network "
                "or the disk",
                by_server=one.subject == "database",
            )
            return findings
        except CancelledError:
            return Findings()

    def stop(self) -> None:
        """End soon; test objects are removed."""
        self.stopped = True
        for place in self._places:
            place.stop()
        for waiting in self._waiting:
            waiting.cancel()


def _broken(subject: str, failure: Failure) -> Findings:
    """A check that ended by an error of the program: the others still count."""
    logger.error("check of %s:\n%s", subject, failure.getTraceback())
    findings = Findings()
    findings.wrong(
        subject,
        f"this check failed by itself ({type(failure.value).__name__}): report it, with what is "
        "logged",
    )
    return findings


def _store_check(
    homeserver: Homeserver, base_path: str | None, limits: LocalDiskSettings | None
) -> Callable[[], Findings]:
    return partial(check_media_store, homeserver, base_path, limits)


def _run(checks: _Checks) -> Any:
    def note(text: str) -> None:
        print_line("Stopping; press Ctrl-C again to stop at once", sys.stderr)

    def last_words() -> None:
        for name in sorted(checks.left):
            print_line(f"The test object {name} may be left: remove it", sys.stderr)

    return run(reactor, checks.run, checks.stop, last_words, note)
