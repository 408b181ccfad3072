"""The error with which Synapse answers a Matrix client."""

from __future__ import annotations

import json
import logging

from synapse.module_api.errors import SynapseError
from twisted.web.http import Request

from swift_provider.errors import WrongLengthError

logger = logging.getLogger(__name__)

#: Headers that describe the file, and must not be on an answer without it.
OF_THE_FILE = ("Content-Type", "Content-Disposition", "Content-Range", "Accept-Ranges", "ETag")

_ADVICE = (
    ". Somebody replaced the object, or Synapse's database is older than it. "
    "swift_media_upload verify names all such media"
)


def error_for_client(
    error: Exception, verb: str, path: str, level: int = logging.ERROR
) -> SynapseError:
    """Log an error in full, and make the error for the Matrix client, without details.

    :param verb: what failed, such as ``"store"``.
    :param path: the file's path, relative to the media store.
    :param level: of the log line.
    :returns: with status 503 if a retry may help, otherwise 500.
    """
    advice = _ADVICE if isinstance(error, WrongLengthError) else ""
    logger.log(level, "Cannot %s %s: %s%s", verb, path, error, advice)
    if getattr(error, "temporary", False):
        return SynapseError(503, f"Cannot {verb} this media now; try again later")
    return SynapseError(500, f"Cannot {verb} this media; the server's log says why")


def refuse(request: Request, error: SynapseError) -> None:
    """Answer with an error, in place of the file that Synapse has announced.

    :param request: nothing was written in answer to it.
    """
    body = json.dumps({"errcode": error.errcode, "error": error.msg}).encode("ascii")
    for name in OF_THE_FILE:
        request.responseHeaders.removeHeader(name)
    request.setResponseCode(error.code)
    request.setHeader("Content-Type", "application/json")
    request.setHeader("Cache-Control", "no-store")
    request.setHeader("Content-Length", str(len(body)))
    request.write(body)
