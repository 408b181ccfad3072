"""The error with which Synapse answers a Matrix client."""

from __future__ import annotations

import logging

from synapse.module_api.errors import SynapseError

logger = logging.getLogger(__name__)


def error_for_client(error: Exception, verb: str, path: str) -> SynapseError:
    """Log an error in full, and make the error for the Matrix client, without details.

    :param verb: what failed, such as ``"store"``.
    :param path: the file's path, relative to the media store.
    :returns: with status 503 if a retry may help, otherwise 500.
    """
    logger.error("Cannot %s %s: %s", verb, path, error)
    if getattr(error, "temporary", False):
        return SynapseError(503, f"Cannot {verb} this media now; try again later")
    return SynapseError(500, f"Cannot {verb} this media; the server's log says why")
