"""Another version of Synapse, in an environment of its own.

Its first use builds it with pip, in the checkout's ``.test``. It stays there.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

from tests.servers import process

#: What ``swift_provider`` imports in Synapse's process, beside Synapse and Twisted.
_NEEDS = ("treq", "keystoneauth1", "requests", "pyyaml")

#: Synapse 1.140 subclasses a class that is abstract from prometheus-client 0.23 on.
_PINS = {"1.140.0": ("prometheus-client<0.23",)}


def python_with_synapse(version: str) -> str:
    """An interpreter with that Synapse.

    :raises ServiceError: if pip cannot install it; shows the end of its output.
    """
    folder = process.ROOT / ".test" / f"synapse-{version}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of pytest-xdist may be building it
        if not ready.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            _pip_install(python, f"matrix-synapse=={version}", *_NEEDS, *_PINS.get(version, ()))
            ready.touch()
    return str(python)


def _pip_install(python: Path, *requirements: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise process.ServiceError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
