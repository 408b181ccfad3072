"""Two names for one place in Swift, which the configuration does not show."""

from __future__ import annotations

from typing import Any

import pytest

from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift


@pytest.mark.parametrize("how", ["storage_url", "region", "cloud"])
def test_one_container_by_two_names_is_no_proof_of_two(
    mirrors: Mirrors, store: SynapseStore, swift: Swift, account: Credentials, how: str
) -> None:
    """Its objects are one copy, whatever leads to them. The run does not begin."""
    path = store.add_local("abcdef", b"content")
    of_b: dict[str, Any] = {"container": mirrors.a.container}
    if how == "storage_url":
        of_b["storage_url"] = swift.account_url(account.project_id)
    elif how == "region":
        of_b["region_name"] = "RegionOne"
    else:
        of_b |= {"cloud": None, "auth": account.auth(), "region_name": "RegionOne"}
    mirrors.configure(**of_b)
    ended = mirrors.plain("upload", store.base, "--all", "--delete")
    assert ended.returncode == 2
    assert "a and b lead to the same objects: " in ended.stderr
    assert store.files() == {path}
    assert mirrors.a.names() == set()


@pytest.mark.parametrize("missing", [False, True])
def test_sync_refuses_two_names_of_one_container(
    mirrors: Mirrors, swift: Swift, account: Credentials, missing: bool
) -> None:
    """It could only compare the objects with themselves. If the container is missing, each makes
    it.
    """
    container = f"{mirrors.a.container}-new" if missing else mirrors.a.container
    mirrors.a["local_content/aa/bb/cccc"] = b"content"
    mirrors.configure(
        of_a={"container": container, "create_container": True},
        container=container,
        create_container=True,
        storage_url=swift.account_url(account.project_id),
    )
    for options in ((), ("--proof",)):
        error = mirrors.run("sync", *options, status=2)["error"]
        assert error.startswith("a and b lead to the same objects: ")
