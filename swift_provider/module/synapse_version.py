"""Checks Synapse's version before the rest of this package imports Synapse."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from swift_provider._version import __version__

#: 1.140 brought ``ConsumerRequestedStopError`` and the module API's own
#: ``run_as_background_process``.
OLDEST_SYNAPSE = (1, 140)


def check_synapse_version(installed: str | None = None) -> None:
    """Refuse a Synapse that is too old. Accept a version that cannot be read.

    :param installed: its version; ``None`` to look it up.
    :raises synapse.config.ConfigError: naming both versions. Synapse shows this error
        without a traceback.
    """
    if installed is None:
        try:
            installed = version("matrix-synapse")
        except PackageNotFoundError:
            return
    match = re.match(r"(\d+)\.(\d+)", installed)
    if match and (int(match[1]), int(match[2])) < OLDEST_SYNAPSE:
        from synapse.config import ConfigError

        oldest = ".".join(map(str, OLDEST_SYNAPSE))
        raise ConfigError(
            f"synapse-swift-storage-provider {__version__} needs Synapse {oldest} or newer, "
            f"and this is Synapse {installed}: upgrade Synapse"
        )
