"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: Of the environment that runs the comparisons.
PACKAGES = (
    *("synapse-swift-storage-provider", "Twisted", "treq", "swift", "keystone"),
    "matrix-synapse",
)


def machine() -> dict[str, str]:
    """Processor, cores, memory, system, load."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": _field("/proc/meminfo", "MemTotal") or "unknown",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "load before": "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg()),
    }


def versions() -> dict[str, str]:
    """Of the packages of our own environment."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "from the checkout" if name.startswith("synapse-swift") else "missing"
    return found


def _field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
