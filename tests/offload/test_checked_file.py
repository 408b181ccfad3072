"""What is opened for an upload, and what is not."""

from __future__ import annotations

import hashlib
import os

import pytest

from swift_provider.errors import KeptError
from swift_provider.offload.checked_file import open_checked
from swift_provider.offload.disk import Expected
from tests.offload.synapse_store import SynapseStore

CONTENT = b"content"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def _expected(path: str, length: int = len(CONTENT), sha256: str | None = None) -> Expected:
    return Expected(path, frozenset([length]), sha256)


def test_only_what_the_database_says_is_opened(store: SynapseStore) -> None:
    """Length and SHA-256 have to be the database's."""
    path = store.add_local("abcdef", CONTENT)
    base = str(store.base)
    open_checked(base, _expected(path)).close()
    open_checked(base, _expected(path, sha256=SHA256.upper())).close()
    with pytest.raises(KeptError, match="length"):
        open_checked(base, _expected(path, 8))
    with pytest.raises(KeptError, match="SHA-256"):
        open_checked(base, _expected(path, sha256="0" * 64))
    with pytest.raises(FileNotFoundError):
        open_checked(base, _expected(path + "x"))


def test_what_is_no_regular_file(store: SynapseStore) -> None:
    """Links, fifos and sockets are never opened, and never waited for."""
    path = store.add_local("abcdef", CONTENT)
    base = store.base
    (base / "local_content" / "link").symlink_to(base / path)
    os.mkfifo(base / "local_content" / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(KeptError, match="not a regular file"):
            open_checked(str(base), _expected(f"local_content/{name}"))
