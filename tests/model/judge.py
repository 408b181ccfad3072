"""Judges each step: what a job must never do, and what may be lost.

The invariant: each file that a user was told is stored, and that Synapse has not purged,
is whole where Synapse looks: on disk under its name, or in Swift as an object with all its
segments that will not expire. A file may be lost only by an event from outside that hits
its only copy.
"""

from __future__ import annotations

from collections.abc import Sequence

from swift_provider.offload.new_file import BAD, RESTORING
from tests.model.homeserver import File, Homeserver
from tests.model.swift import CONTAINER, OTHER, Stored, Swift


class Violation(AssertionError):
    """The package has broken a promise."""


class Judge:
    """Knows what was whole, and compares.

    :ivar lost: files that an event from outside has destroyed.
    :ivar touched: files that an event has touched since the current job began.
    :ivar enough: how many places in Swift must hold what leaves the disk.
    """

    def __init__(self, homeserver: Homeserver, swifts: Sequence[Swift]) -> None:
        self.lost: set[str] = set()
        self.touched: set[str] = set()
        self._homeserver = homeserver
        self._swifts = swifts
        self._violations: list[str] = []
        self._before: dict[str, bytes] = {}
        self.may_delete = True
        self.enough = len(swifts)
        for swift in swifts:
            swift.watch = _Watch(self, swift)

    # Copies

    def is_kept(self, path: str, file: File) -> bool:
        """Whether a whole copy is where Synapse looks."""
        if self._homeserver.read(path) in (file.content, file.older or file.content):
            return True
        return any(swift.whole(path) == file.content for swift in self._swifts)

    def _gone(self) -> set[str]:
        files = self._homeserver.files
        return {path for path, file in files.items() if not self.is_kept(path, file)}

    # Before and after a piece of work of a job

    def begin(self) -> None:
        """From now on, only the job changes anything."""
        self._before = self._homeserver.on_disk()

    def end(self) -> None:
        """:raises Violation: if the job did since :meth:`begin` what it must not."""
        gone = self._gone()
        for path in sorted(gone - self.lost):
            self.violated(f"lost: {path}")
        self.lost = gone
        now = self._homeserver.on_disk()
        for path in self._before.keys() - now.keys():
            copies = [swift.whole(path) for swift in self._swifts].count(self._before[path])
            if RESTORING not in path and copies < self.enough:
                self.violated(f"deleted from the disk without a copy in Swift: {path}")
            if path in self._homeserver.unfinished:
                self.violated(f"deleted while Synapse was writing it: {path}")
        for path in now:
            if now[path] != self._before.get(path) and RESTORING not in path:
                self._judge_written(path, now)
        if self._violations:
            raise Violation("; ".join(self._violations))

    def after_event(self) -> None:
        """What is gone now was destroyed from outside."""
        self.lost = self._gone()

    def _judge_written(self, path: str, now: dict[str, bytes]) -> None:
        content, before = now[path], self._before.get(path)
        if BAD in path:
            if content != self._before.get(path.partition(BAD)[0]):
                self.violated(f"kept as bad is something else: {path}")
            return
        file = self._homeserver.files.get(path)
        if file is None:
            # If Synapse purges a media while restore fetches it, the file may come back.
            if path not in self.touched:
                self.violated(f"written, but Synapse has no such file: {path}")
        elif content == file.older and path in self.touched:
            return
        elif content != file.content:
            # Without a SHA-256, only the length can show it.
            undetectable = not file.proven and len(content) == len(file.content)
            served = [swift.served(path) for swift in self._swifts]
            if not (undetectable and content in served):
                self.violated(f"wrong bytes under a final name: {path}")
        elif before is not None and path not in self.touched and "thumbnail" not in path:
            asides = [one for one in now if one.startswith(f"{path}{BAD}")]
            if before not in [now[one] for one in asides]:
                self.violated(f"a bad file was not kept: {path}")

    def violated(self, text: str) -> None:
        """A promise was broken."""
        self._violations.append(text)

    def knows(self, path: str) -> bool:
        """Whether Synapse knows the media of a file, or is writing it."""
        return path in self._homeserver.files or path in self._homeserver.unfinished

    def file(self, path: str) -> File | None:
        """What a user was told is stored."""
        return self._homeserver.files.get(path)


class _Watch:
    """Judges what the jobs do to one place in Swift."""

    def __init__(self, judge: Judge, swift: Swift) -> None:
        self._judge = judge
        self._swift = swift

    def overwrites(self, path: str, new: Stored) -> None:
        file = self._judge.file(path)
        if file is None or self._swift.whole(path) != file.content:
            return
        if self._content(new) != file.content:
            self._judge.violated(f"a good object was overwritten by another file: {path}")

    def _content(self, stored: Stored) -> bytes:
        if stored.rows is None:
            return stored.data
        parts = self._swift.segments.objects
        return b"".join(parts[row.name].data for row in stored.rows)

    def deletes(self, path: str, stored: Stored) -> None:
        if not self._judge.may_delete:
            self._judge.violated(f"deleted without --delete: {path}")
        if stored.owner == OTHER:
            self._judge.violated(f"deleted another homeserver's object: {path}")
        if self._judge.knows(path):
            self._judge.violated(f"deleted the object of a media that Synapse knows: {path}")

    def deletes_segment(self, name: str, segment: Stored) -> None:
        if not self._judge.may_delete:
            self._judge.violated(f"deleted without --delete: {name}")
        if segment.owner == OTHER or segment.manifest_container not in ("", CONTAINER):
            self._judge.violated(f"deleted another's segment: {name}")
        manifests = [*self._swift.media.objects.values(), *(one[1] for one in self._swift.coming)]
        if any(row.name == name for manifest in manifests for row in manifest.rows or ()):
            self._judge.violated(f"deleted a segment of an object: {name}")
        path = "/".join(name.split("/")[:-2])
        if self._judge.file(path) is not None and self._swift.whole(path) is None:
            self._judge.violated(f"deleted a segment that may be the last copy: {name}")
