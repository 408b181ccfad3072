"""Checks that Synapse can load the module, in the Python environment of this process. Blocks.

A process of its own imports it: Synapse changes the process that imports it.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from swift_provider._version import __version__
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.checks.steps import ALL_STEPS_SECONDS

#: Less than all checks get: this one says more about it.
_SECONDS = ALL_STEPS_SECONDS - 2

_IMPORT = "import swift_provider; swift_provider.SwiftStorageProviderBackend"


def check_synapse() -> Findings:
    """Import the module as Synapse does."""
    findings = Findings()
    if find_spec("synapse") is None:
        findings.note(
            "Synapse",
            f"{sys.executable} has no Synapse, so this run cannot tell whether the module loads: "
            "run check with the Python of Synapse's environment",
        )
        return findings
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _IMPORT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        findings.note("Synapse", f"loading the module takes more than {_SECONDS:g} s here")
        return findings
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        findings.wrong(
            "Synapse",
            f"the module cannot be imported ({last}): install it into Synapse's environment again",
        )
        return findings
    findings.ok("Synapse", f"{_version()}, and the module {__version__} can be imported")
    return findings


def _version() -> str:
    try:
        return version("matrix-synapse")
    except PackageNotFoundError:
        return "of an unknown version"
