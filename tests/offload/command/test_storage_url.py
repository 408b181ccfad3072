"""What is said about a storage_url that leads nowhere, or into another account."""

from __future__ import annotations

import pytest

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.swift import Swift


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("", 3, "Swift knows no such URL: check storage_url, which ends in /v1/ and the account"),
        ("/v1/AUTH_wrong", 1, "(if storage_url is set: check the account in it)"),
    ],
)
def test_a_wrong_storage_url(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    swift: Swift,
    path: str,
    status: int,
    told: str,
) -> None:
    """The message names the option."""
    store.add_local("media")
    url = f"{swift.url}{path}"
    offload.configure(store, cloud="matrix", container=objects.container, storage_url=url)
    ended = offload("upload", store.base, "--all")
    assert ended.returncode == status
    assert told in ended.stderr
