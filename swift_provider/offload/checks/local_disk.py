"""Judges whether the limits of ``local_disk`` make sense for the disk."""

from __future__ import annotations

import time

from swift_provider.config import LocalDiskSettings
from swift_provider.keeper import Space, space_to_free
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.media_walk import walk
from swift_provider.sizes import readable


def judge_limits(
    findings: Findings, base_path: str, limits: LocalDiskSettings, space: Space, until: float
) -> None:
    """Compare the limits with the disk, and with what media take on it.

    :param until: when to stop counting, by :func:`time.monotonic`.
    """
    unreadable: list[str] = []
    taken, whole = 0, True
    for file in walk(base_path, lambda path, reason: unreadable.append(f"{path} {reason}")):
        taken += file.taken
        if time.monotonic() > until:
            whole = False
            break
    if unreadable:
        findings.wrong("local_disk", f"{unreadable[0]}: give the media store to Synapse's user")
    known = len(findings.found)
    min_free = _bytes_free(limits, space)
    if min_free and min_free >= space.total:
        findings.wrong(
            "local_disk",
            f"min_free ({readable(min_free)}) is not below the size of the disk "
            f"({readable(space.total)}), so all media would leave it: set it to less",
        )
    elif whole and min_free > space.free + taken:
        findings.wrong(
            "local_disk",
            f"min_free ({readable(min_free)}) is out of reach: without any media the disk would "
            f"have {readable(space.free + taken)} free: set it to less",
        )
    too_large = limits.max_size is not None and limits.max_size > space.free + taken
    # Some network file systems say 0 for everything.
    if limits.max_size is not None and too_large and whole and space.total:
        text = (
            f"the disk is full before media take max_size ({readable(limits.max_size)}): they take "
            f"{readable(taken)} and {readable(space.free)} are free"
        )
        if limits.min_free is None:
            findings.wrong("local_disk", f"{text}: set max_size to less, or set min_free")
        else:
            findings.note("local_disk", f"{text}, so only min_free counts")
    if len(findings.found) > known:
        return
    over = space_to_free(limits, taken, space)
    at_least = "" if whole else "at least "
    if over:
        findings.note(
            "local_disk",
            f"media take {at_least}{readable(taken)}, and the first run removes about "
            f"{readable(over)} from the disk once Swift is proven to hold them",
        )
    else:
        findings.ok("local_disk", f"media take {at_least}{readable(taken)}, within the limits")


def _bytes_free(limits: LocalDiskSettings, space: Space) -> int:
    if isinstance(limits.min_free, float):
        return int(limits.min_free * space.total)
    return limits.min_free or 0
