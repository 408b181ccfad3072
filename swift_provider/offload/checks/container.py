"""Judges what a container, its account and its cluster say of themselves."""

from __future__ import annotations

from contextlib import suppress

from swift_provider.client import MOST_SKEW, ContainerFacts, Place, Quota, account_quota
from swift_provider.errors import SwiftProviderError
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.checks.steps import Steps
from swift_provider.sizes import readable

#: Less than this share of a quota left is worth a note.
_LITTLE = 0.1


def judge(findings: Findings, place: Place, facts: ContainerFacts) -> None:
    """The container's headers, and Swift's clock."""
    used, objects = facts.quota.used_bytes, facts.quota.used_objects
    holds = "" if used is None or objects is None else f"{objects} objects, {readable(used)}"
    policy = f"policy {facts.policy}" if facts.policy else ""
    details = ", ".join(filter(None, (holds, policy)))
    findings.ok("container", place.container + (f": {details}" if details else ""))
    wanted = place.client.settings.storage_policy
    if wanted is not None and facts.policy and facts.policy != wanted:
        findings.note(
            "storage policy",
            f"{place.container} has the policy {facts.policy}, not {wanted}: a container keeps its "
            "policy. For the other one, take another container",
        )
    if facts.keeps_versions:
        findings.note(
            "versions",
            f"{place.container} keeps old versions, so what is deleted stays in Swift and is paid "
            "for: if that is not meant, switch it off: "
            f"swift post -H 'X-Versions-Enabled: false' {place.container}",
        )
    if abs(facts.skew) > MOST_SKEW:
        findings.note(
            "clock",
            f"this machine's clock is {abs(facts.skew):.0f} seconds "
            f"{'behind' if facts.skew > 0 else 'ahead of'} Swift's: set the one that is wrong "
            "(timedatectl set-ntp true)",
        )
    else:
        findings.ok("clock", "as Swift's")


async def judge_room(findings: Findings, place: Place, facts: ContainerFacts, steps: Steps) -> bool:
    """What the quotas of container and account leave.

    :returns: whether anything can be stored.
    """
    quotas = {"container": facts.quota}
    with suppress(SwiftProviderError):  # A user of the container alone may not look at it.
        quotas["account"] = await steps.run(account_quota(place))
    have_room = [_judge_quota(findings, whose, quota) for whose, quota in quotas.items()]
    return all(have_room)


def _judge_quota(findings: Findings, whose: str, quota: Quota) -> bool:
    has_room = True
    for most, used, text in (
        (quota.most_bytes, quota.used_bytes, readable),
        (quota.most_objects, quota.used_objects, lambda count: f"{count:.0f} objects"),
    ):
        if most is None or used is None:
            continue
        left = most - used
        if left <= 0:
            has_room = False
            findings.wrong(
                "quota",
                f"the quota of the {whose} ({text(most)}) is used up: remove something, or have "
                "it raised",
                by_server=True,
            )
        elif left < _LITTLE * most:
            findings.note("quota", f"only {text(left)} of the {whose}'s {text(most)} are left")
        else:
            findings.ok("quota", f"{text(left)} of the {whose}'s {text(most)} are left")
    return has_room


async def judge_sizes(findings: Findings, place: Place, largest: int | None, steps: Steps) -> None:
    """Whether the cluster takes large files.

    :param largest: bytes that a media has at most; ``None`` if unknown.
    """
    try:
        limits = await steps.run(place.client.cluster.limits())
    except SwiftProviderError:
        return
    if limits.temp_url_digests is None:
        findings.note(
            "large files",
            "Swift does not tell its limits (/info), so the usual ones are assumed: "
            f"{readable(limits.max_file_size)} an object",
        )
        return
    most, size = limits.max_file_size, place.client.settings.segment_size
    if limits.max_segments == 0:
        lacks = f"this Swift has no static large objects (slo), so files above {readable(most)}"
        if largest is not None and largest > most:
            findings.wrong(
                "large files",
                f"{lacks} cannot be stored, and max_upload_size is {readable(largest)}: lower it, "
                "or ask the cluster's operators for slo",
            )
        else:
            findings.note("large files", f"{lacks} cannot be stored")
    elif size > most:
        findings.note(
            "large files",
            f"this Swift takes at most {readable(most)} in one object, so segments are of that "
            f"size, and segment_size ({readable(size)}) does not count",
        )
    else:
        findings.ok("large files", f"above {readable(size)} in segments (slo)")
