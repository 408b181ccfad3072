"""Files are deleted only for a place in Swift where Synapse looks."""

from __future__ import annotations

import pytest
import yaml

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.keystone import REGION
from tests.servers.swift import Swift


@pytest.mark.parametrize(
    "options",
    [
        ["no-such-container"],
        ["--prefix", "other"],
        ["--cloud", "envvars"],
        ["--region-name", "Elsewhere"],
        ["--storage-url", "http://127.0.0.1:1/v1/AUTH_x"],
    ],
)
@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
def test_another_place_is_refused(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    options: list[str],
    dry_run: list[str],
) -> None:
    """--delete with flags that lead elsewhere ends with status 2, and names both places."""
    path = store.add_local("abcdef")
    offload("update-db", "2m")
    ended = offload("upload", store.base, *options, "--delete", *dry_run)
    assert ended.returncode == 2, ended.stdout
    assert options[-1] in ended.stderr
    assert f"container {objects.container}" in ended.stderr
    assert "--even-so" in ended.stderr
    assert store.files() == {path}


def test_even_so(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """An operator who means it may; and without --delete there is nothing to refuse."""
    path = store.add_local("abcdef")
    offload("update-db", "2m")
    options = ("upload", store.base, "--prefix", "other")
    assert offload(*options).returncode == 0
    assert store.files() == {path}
    assert offload(*options, "--delete", "--even-so").returncode == 0
    assert store.files() == set()
    assert objects.names() == {f"other/{path}"}


def test_the_same_place_in_other_words(
    offload: Script, store: SynapseStore, objects: Objects, swift: Swift
) -> None:
    """Flags that say what the entry says are fine; with several entries, any of them."""
    elsewhere = {"cloud": "matrix", "container": "elsewhere"}
    here = {"cloud": "matrix", "container": objects.container, "prefix": "p", "region_name": REGION}
    module = "swift_provider.SwiftStorageProviderBackend"
    entries = [{"module": module, "config": config} for config in (elsewhere, here)]
    options = {"database": store.yaml_section, "media_storage_providers": entries}
    (offload.folder / "homeserver.yaml").write_text(yaml.safe_dump(options))
    path = store.add_local("abcdef")
    offload("update-db", "2m")
    flags = ("--cloud", "matrix", "--region-name", REGION, "--prefix", "p/")
    ended = offload("upload", store.base, objects.container, *flags, "--delete")
    assert ended.returncode == 0, ended.stderr
    assert objects.names() == {f"p/{path}"}
    assert store.files() == set()


def test_an_entry_is_missing(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """A homeserver.yaml without an entry for Swift: Synapse would find nothing."""
    path = store.add_local("abcdef")
    offload.configure(store)
    offload("update-db", "2m")
    options = ("upload", store.base, objects.container, "--cloud", "matrix", "--delete")
    ended = offload(*options)
    assert ended.returncode == 2
    assert "media_storage_providers" in ended.stderr
    assert "--even-so" in ended.stderr
    assert store.files() == {path}
    assert offload(*options, "--even-so").returncode == 0


def test_without_homeserver_yaml(offload: Script, store: SynapseStore, objects: Objects) -> None:
    """With database.yaml and CONTAINER there is nothing to compare: a warning, and it goes on."""
    path = store.add_local("abcdef")
    (offload.folder / "homeserver.yaml").unlink()
    (offload.folder / "database.yaml").write_text(yaml.safe_dump({"sqlite": store.config.args}))
    offload.environment["OS_CLOUD"] = "matrix"
    assert offload("update", store.base, "2m").returncode == 0
    ended = offload("upload", store.base, objects.container, "--delete")
    assert ended.returncode == 0, ended.stderr
    assert "no homeserver.yaml" in ended.stderr
    assert f"container {objects.container}" in ended.stderr
    assert objects.names() == {path}
    assert store.files() == set()
