"""What happened: media that clients were told are stored, and errors by kind. Thread-safe."""

from __future__ import annotations

import hashlib
import random
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stored:
    """A media that Synapse has said it has."""

    mxc: str
    size: int
    sha256: str
    is_image: bool = False

    @property
    def media_id(self) -> str:
        """As in the ``mxc://`` URI."""
        return self.mxc.rpartition("/")[2]

    def same(self, content: bytes) -> bool:
        """Whether this is its content."""
        return hashlib.sha256(content).hexdigest() == self.sha256


class Record:
    """Of one soak."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stored: list[Stored] = []
        self._deleted: list[Stored] = []
        #: What went well, and what went wrong, by kind.
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        #: Each is a reason for a non-zero exit.
        self.wrong: list[str] = []
        self.stored_bytes = 0

    def store(self, media: Stored) -> None:
        """A client was told that this is stored."""
        with self._lock:
            self._stored.append(media)
            self.stored_bytes += media.size
            self.done["upload"] += 1

    def stored(self) -> list[Stored]:
        """All so far."""
        with self._lock:
            return list(self._stored)

    def forget(self, media: Stored) -> bool:
        """Synapse is asked to delete it. From now on it may be there or not.

        :returns: ``False`` if another client was faster.
        """
        with self._lock:
            if media not in self._stored:
                return False
            self._stored.remove(media)
            return True

    def delete(self, media: Stored) -> None:
        """Synapse has said that it is deleted, after :meth:`forget`."""
        with self._lock:
            self._deleted.append(media)
            self.done["deletion"] += 1

    def deleted(self) -> list[Stored]:
        """All so far."""
        with self._lock:
            return list(self._deleted)

    def is_stored(self, media: Stored) -> bool:
        """Whether nobody has asked to delete it."""
        with self._lock:
            return media in self._stored

    def one(self, random_: random.Random) -> Stored | None:
        """Any one of them, newer ones more often; ``None`` if there is none."""
        with self._lock:
            if not self._stored:
                return None
            return self._stored[int(len(self._stored) * random_.random() ** 0.5)]

    def count(self, what: str, times: int = 1) -> None:
        """Something went well."""
        with self._lock:
            self.done[what] += times

    def fail(self, what: str) -> None:
        """Something went wrong, as it may while there are faults."""
        with self._lock:
            self.errors[what] += 1

    def must_not_be(self, what: str) -> None:
        """Something went wrong that must never."""
        with self._lock:
            self.wrong.append(what)

    def as_mapping(self) -> dict[str, Any]:
        """For JSON."""
        with self._lock:
            return {
                "stored_files": len(self._stored),
                "stored_bytes": self.stored_bytes,
                "done": dict(self.done),
                "errors": dict(self.errors),
                "wrong": list(self.wrong),
            }


def say(text: str) -> None:
    """To the person who waits, at once."""
    print(text, flush=True)
