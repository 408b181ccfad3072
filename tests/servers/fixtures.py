"""The real services as pytest fixtures: started at their first use, once for a run.

A service that cannot start fails the tests that need it and says what is
missing; none is skipped. Names in Keystone, Swift and PostgreSQL live as long
as the run: a test that makes something chooses a name of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.keystone import Credentials, Keystone, running_keystone
from tests.servers.postgres import Postgres, running_postgres
from tests.servers.swift import Swift, running_swift
from tests.servers.synapse import Synapse, running

#: Where ``small_swift`` stands in the catalogue, and its largest object in bytes.
SMALL_REGION = "SmallRegion"
SMALL_MAX_FILE_SIZE = 5 * 1024 * 1024

#: A region in which no Swift runs.
OTHER_REGION = "OtherRegion"

#: Who signs in to ``second_swift``.
SECOND_USER = ("mirror:keeper", "another-secret")


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """Keystone, with tokens that are valid for an hour.

    Its catalogue has a second region, so that a test needs a region's name whether or not
    another test has started a Swift in a region of its own.
    """
    with running_keystone(tmp_path_factory.mktemp("keystone")) as started:
        for interface in ("public", "internal"):
            started.create_endpoint("object-store", "http://127.0.0.1:9", OTHER_REGION, interface)
        yield started


@pytest.fixture(scope="session")
def account(keystone: Keystone) -> Credentials:
    """User ``synapse``, role ``member`` on the project ``matrix``."""
    return keystone.create_account("matrix", "synapse", "only-on-loopback")


@pytest.fixture(scope="session")
def swift(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """Swift, in the region that is the default everywhere; takes TempAuth's users too."""
    with running_swift(tmp_path_factory.mktemp("swift"), keystone) as started:
        yield started


@pytest.fixture(scope="session")
def small_swift(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """A second Swift, in SMALL_REGION, which refuses objects above SMALL_MAX_FILE_SIZE."""
    folder = tmp_path_factory.mktemp("small-swift")
    with running_swift(
        folder, keystone, region=SMALL_REGION, max_file_size=SMALL_MAX_FILE_SIZE
    ) as started:
        yield started


@pytest.fixture(scope="session")
def second_swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """A Swift of another owner: signs in by TempAuth alone, and only SECOND_USER."""
    folder = tmp_path_factory.mktemp("second-swift")
    with running_swift(folder, tempauth=SECOND_USER) as started:
        yield started


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server without databases of ours."""
    with running_postgres() as started:
        yield started


@pytest.fixture
def clouds_yaml(account: Credentials, tmp_path: Path) -> Callable[..., Path]:
    """Writes a ``clouds.yaml`` for ``account``; arguments as of ``write_clouds_yaml``."""

    def write(**options: Any) -> Path:
        return account.write_clouds_yaml(tmp_path / "clouds.yaml", **options)

    return write


@pytest.fixture
def synapse(tmp_path: Path) -> Iterator[Callable[..., Synapse]]:
    """Starts a homeserver; arguments as of :class:`Synapse`, without the folder."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(**options: Any) -> Synapse:
            nonlocal count
            count += 1
            homeserver = Synapse(tmp_path / f"synapse-{count}", **options)
            return stack.enter_context(running(homeserver))

        yield start
