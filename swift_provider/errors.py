"""The one tree of errors, shared by the client, the module and the script.

Every error says what was done, to what, what came back, and whether a retry can
help. None carries a token, a password, a request header or a query string, so each
can be logged and shown as it is.

::

    SwiftProviderError
    ├── ConfigError                what the administrator wrote cannot be right
    │   └── LooksWrongError          a deletion so large that a setting is more likely wrong
    ├── FileChangedError           a local file changed while it was read
    │   └── ReadingsDifferError      or the disk or the memory returns wrong bytes
    ├── DiskFullError              the local disk has no space left
    ├── DiskGoneError              the media store is not there any more
    ├── DiskFailsError             the disk fails with one file after the other
    ├── KeptError                  the script leaves a file or an object as it is
    │   └── BadFileError             a local file is not what Synapse's database says
    ├── NotBegunError              the run ended before it began with a file
    ├── UnsafeNameError            a name that Synapse would not use in a path
    ├── CacheError                 the script's cache.db cannot be read or written
    ├── DatabaseUnavailableError   Synapse's database cannot be reached, or refuses us
    ├── ConsumerStoppedError       the reader of a download went away
    ├── SourceFailedError          within a copy: the source's error, not the target's
    ├── AuthError                  no token: Keystone refused, or the catalogue lacks Swift
    │   └── AuthUnavailableError     Keystone did not answer, or asked to wait  (temporary)
    └── SwiftError                 an operation on a container or an object failed
        ├── ObjectNotFoundError      404, and it is the object that is missing
        ├── ContainerNotFoundError   404, and it is the container
        ├── AccessDeniedError        403, or 401 with a token just issued
        ├── RequestRefusedError      any other final 4xx
        │   ├── ObjectExistsError      412 to a PUT that must not overwrite
        │   ├── ObjectChangedError     412 or another ETag: replaced meanwhile
        │   └── ObjectTooLargeError    413
        ├── InsufficientStorageError 507, or a quota
        ├── UntrustedServerError     TLS failed, usually because of a certificate
        ├── WrongLengthError         an object is not as long as its reader was told
        ├── NewerObjectError         202 or 409: the object has a later time   (temporary)
        └── TemporaryError           a retry may help
            ├── ObjectUnclearError     404, and perhaps Swift could not ask the container
            ├── ServerBusyError        408, 429, 498, 499, 5xx
            ├── ConnectionFailedError  refused, lost, or no such host
            ├── TimedOutError          one of our own time limits
            │   └── SlowError            a body came too slowly, and there is another place
            └── DamagedError           length or checksum is wrong
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class SwiftProviderError(Exception):
    """Base of all errors that this project raises on purpose."""

    #: Whether the same operation may succeed later without a change.
    temporary = False
    #: Which of several mirrors it is about; empty if there is only one place.
    mirror = ""

    def __str__(self) -> str:
        return f"{self.mirror}: {self.text()}" if self.mirror else self.text()

    def text(self) -> str:
        """The message, without the name of the mirror."""
        return super().__str__()


class ConfigError(SwiftProviderError):
    """A setting is missing, unknown, of the wrong type, or contradicts another.

    :param message: what is wrong and what to do, naming the setting in full.
    """


class LooksWrongError(ConfigError):
    """So much would be deleted that the wrong database or prefix is the likelier reason."""


class FileChangedError(SwiftProviderError):
    """A local file grew, shrank or was replaced while it was being read."""


class ReadingsDifferError(FileChangedError):
    """A local file was read twice, and the second time it had other bytes, although its time
    and size are the same.
    """


class DiskFullError(SwiftProviderError):
    """The local disk has no space left."""


class DiskGoneError(SwiftProviderError):
    """The media store is not there any more, for example because it was unmounted."""


class DiskFailsError(SwiftProviderError):
    """The disk fails with one file after the other: it is read-only, or broken."""


class KeptError(SwiftProviderError):
    """The script leaves a file or an object as it is; the message says why."""


class BadFileError(KeptError):
    """The length or the SHA-256 of a local file is not the one in Synapse's database."""


class NotBegunError(SwiftProviderError):
    """The run ended before it began with a file, which the next run will handle."""


class UnsafeNameError(SwiftProviderError):
    """A name that Synapse would not use as part of a path."""


class CacheError(SwiftProviderError):
    """The script's cache cannot be read or written, usually because the disk is full."""


class DatabaseUnavailableError(SwiftProviderError):
    """Synapse's database cannot be reached, refuses us, or lacks the media tables."""


class ConsumerStoppedError(SwiftProviderError):
    """The consumer of a download stopped it, usually because the client hung up."""


class SourceFailedError(SwiftProviderError):
    """Within a copy: the place that is copied from failed, not the one that is copied to.

    :param error: what happened there.
    :param temporary: whether the next attempt may succeed.
    """

    def __init__(self, error: SwiftProviderError, temporary: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.temporary = temporary
        self.retry_after: float | None = getattr(error, "retry_after", None)


class AuthError(SwiftProviderError):
    """Keystone refused the credentials, or its catalogue has no such endpoint."""


class AuthUnavailableError(AuthError):
    """Keystone could not be reached, answered 5xx, or asked to slow down (429); or something
    else answers in its place, such as a proxy's maintenance page.

    :param retry_after: seconds that Keystone asked to wait; ``None`` if it did not say.
    :param reached: whether it is certain that there is a Keystone.
    """

    temporary = True

    def __init__(
        self, message: str, retry_after: float | None = None, *, reached: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.reached = reached


class SwiftError(SwiftProviderError):
    """An operation on Swift failed.

    :param reason: what went wrong.
    :param operation: HTTP method and what it was for, as ``"PUT"`` or ``"GET"``.
    :param container: the container's name; ``None`` if no container was involved.
    :param name: the object's name; ``None`` for an operation on a container.
    :param status: Swift's HTTP status; ``None`` if there was no answer.
    :param transaction_id: Swift's ``X-Trans-Id``, for the cluster's operators.
    :param retry_after: seconds that Swift asked to wait; ``None`` if it did not say.
    """

    def __init__(
        self,
        reason: str,
        *,
        operation: str,
        container: str | None = None,
        name: str | None = None,
        status: int | None = None,
        transaction_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.reason = reason
        self.operation = operation
        self.container = container
        self.name = name
        self.status = status
        self.transaction_id = transaction_id
        self.retry_after = retry_after
        super().__init__(reason)

    def text(self) -> str:
        return self._text(self.transaction_id)

    def text_without_id(self) -> str:
        """The same for all errors of one kind about one thing."""
        return self._text(None)

    def _text(self, transaction_id: str | None) -> str:
        where = "/".join(part for part in (self.container, self.name) if part) or "the account"
        details = []
        if self.status is not None:
            details.append(f"HTTP {self.status}")
        if transaction_id:
            details.append(f"transaction {transaction_id}")
        detail = f" ({', '.join(details)})" if details else ""
        return f"{self.operation} {where}: {self.reason}{detail}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


@dataclass(frozen=True)
class Target:
    """What a request to Swift is about, for its errors.

    :ivar operation: the HTTP method.
    :ivar container: ``None`` for a request about the account.
    :ivar name: the object's name; ``None`` for a request about the container.
    """

    operation: str
    container: str | None
    name: str | None

    def error(self, kind: type[SwiftError], reason: str, **details: Any) -> SwiftError:
        """Make an error about this target.

        :param details: the other arguments of :class:`SwiftError`, such as ``status``.
        """
        return kind(
            reason,
            operation=self.operation,
            container=self.container,
            name=self.name,
            **details,
        )


class ObjectNotFoundError(SwiftError):
    """Swift says 404 for this object, and its container exists."""


class ContainerNotFoundError(SwiftError):
    """Swift says 404 because there is no such container."""


class AccessDeniedError(SwiftError):
    """403, or 401 although the token was issued just before."""


class RequestRefusedError(SwiftError):
    """Swift refused the request itself (a 4xx that no other class names)."""


class ObjectExistsError(RequestRefusedError):
    """The object exists already, and the PUT must not overwrite it."""


class ObjectChangedError(RequestRefusedError):
    """The object was replaced between two steps of one operation."""


class ObjectTooLargeError(RequestRefusedError):
    """Larger than the cluster's ``max_file_size``."""


class InsufficientStorageError(SwiftError):
    """The cluster is full, or a quota is used up."""


class UntrustedServerError(SwiftError):
    """TLS failed: the certificate is not trusted, or the port does not speak TLS."""


class WrongLengthError(SwiftError):
    """The object is longer or shorter than the reader of the download was told."""


class NewerObjectError(SwiftError):
    """Swift has the object, or its deletion, with a later time than the request. The clocks of
    its proxies differ, or somebody else was faster; neither is a failure of Swift.
    """

    temporary = True


class TemporaryError(SwiftError):
    """A retry may help. Raised once the allowed retries are used up."""

    temporary = True


class ObjectUnclearError(TemporaryError):
    """Swift says 404 for this object. It may be wrong, because its container cannot be asked."""


class ServerBusyError(TemporaryError):
    """408, 429, 498, 499 or 5xx."""


class ConnectionFailedError(TemporaryError):
    """The connection was refused, lost or never made."""


class TimedOutError(TemporaryError):
    """A time limit passed: on connecting, on the headers, on silence in a body, or on
    the whole operation. The reason says which.
    """


class SlowError(TimedOutError):
    """A body comes so slowly that another place is worth asking."""


class DamagedError(TemporaryError):
    """What arrived is not what was sent: its length or its MD5 is wrong."""
