"""Fixtures for the tests of signing in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swift_provider.client.identity import cloud_files
from tests.client.identity.harness import Harness
from tests.client.identity.keystone_standin import running_standin


@pytest.fixture
def harness() -> Iterator[Harness]:
    with running_standin() as keystone:
        yield Harness(keystone)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; the site's directory is empty too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cloud_files, "SITE_DIRECTORY", str(tmp_path / "etc"))
    return tmp_path
