"""What the checks found, in the order in which a person reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from swift_provider.errors import ConfigError, SwiftProviderError


class Verdict(Enum):
    """How a finding is judged."""

    OK = "ok"
    WRONG = "wrong"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One line of the output.

    :ivar subject: what it is about.
    :ivar text: what is so; if it is wrong, with the remedy.
    :ivar by_server: a server is unreachable or refuses; otherwise the configuration is wrong.
    """

    subject: str
    verdict: Verdict
    text: str
    by_server: bool = False

    def __str__(self) -> str:
        return f"{self.verdict.value:<7} {self.subject}: {self.text}"


class Findings:
    """The findings about one thing, such as one place in Swift.

    :param prefix: put before each subject, such as the name of the place.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self.found: list[Finding] = []

    def ok(self, subject: str, text: str) -> None:
        """All is well."""
        self._add(Finding(self._prefix + subject, Verdict.OK, text))

    def note(self, subject: str, text: str) -> None:
        """Worth knowing, and not wrong."""
        self._add(Finding(self._prefix + subject, Verdict.NOTE, text))

    def wrong(self, subject: str, text: str, *, by_server: bool = False) -> None:
        """Something has to be changed; the text says what."""
        self._add(Finding(self._prefix + subject, Verdict.WRONG, text, by_server))

    def failed(self, subject: str, error: SwiftProviderError) -> None:
        """The step ended with this error."""
        self.wrong(subject, error.text(), by_server=not isinstance(error, ConfigError))

    def _add(self, finding: Finding) -> None:
        self.found.append(finding)
