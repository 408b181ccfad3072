"""Checks that clients can be sent to Swift by temporary URLs."""

from __future__ import annotations

from swift_provider.client import Place, read_keys
from swift_provider.config import RedirectSettings
from swift_provider.errors import SwiftProviderError
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.checks.steps import Steps


def judge_keys(findings: Findings, settings: RedirectSettings, where: str) -> None:
    """Whether the keys can be read: without them Synapse does not start."""
    try:
        read_keys(settings, where)
    except SwiftProviderError as error:
        findings.failed("redirect", error)


async def judge(
    findings: Findings, place: Place, settings: RedirectSettings, where: str, steps: Steps
) -> None:
    """Read the keys, and ask Swift as a browser would.

    :param where: the options' place in ``homeserver.yaml``.
    """
    try:
        access = place.direct_access(settings, read_keys(settings, where))
        verdict = await steps.run(access.check())
    except SwiftProviderError as error:
        findings.failed("redirect", error)
        return
    for flaw in verdict.flaws:
        findings.wrong("redirect", flaw)
    for warning in verdict.warnings:
        if not warning.startswith("clock:"):  # It is a finding of its own.
            findings.note("redirect", warning)
    if verdict.links is not None:
        findings.ok("redirect", "Swift takes the temporary URLs")
