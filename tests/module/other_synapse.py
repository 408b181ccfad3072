"""Another Synapse than the one in our environment, in an environment of its own.

Built by pip at its first use, in ``.test`` in the checkout, and kept there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.servers import process

#: What ``swift_provider`` needs to be imported by that Synapse.
_NEEDS = ("treq", "keystoneauth1", "requests", "pyyaml")

#: Newer releases made an abstract class of one that that Synapse inherits from.
_AS_IT_WAS = {"1.140.0": ("prometheus-client<0.23",)}


def python_with_synapse(version: str) -> str:
    """An interpreter with that Synapse.

    :raises ServiceError: if pip cannot install it; shows the end of its output.
    """
    folder = process.ROOT / ".test" / f"synapse-{version}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        _pip_install(python, f"matrix-synapse=={version}", *_NEEDS, *_AS_IT_WAS.get(version, ()))
        ready.touch()
    return str(python)


def _pip_install(python: Path, *requirements: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise process.ServiceError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
