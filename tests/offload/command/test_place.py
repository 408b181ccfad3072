"""Files are deleted only for a place in Swift where Synapse looks."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from swift_provider.config import parse_settings
from swift_provider.errors import ConfigError
from swift_provider.offload.command.homeserver import Homeserver
from swift_provider.offload.command.place import check_place
from tests.offload.conftest import Objects, Script
from tests.offload.mirrors import Mirrors
from tests.offload.synapse_store import SynapseStore
from tests.servers.keystone import REGION, Credentials
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


@pytest.mark.parametrize(
    ("entry", "depends"),
    [
        ({}, True),
        ({"cloud": "envvars"}, True),
        ({"cloud": "envvars", "auth": {"password": "x"}}, True),
        ({"region_name": "r"}, True),
        ({"storage_url": "http://ceph/swift/v1"}, True),
        ({"storage_url": "http://swift/v1/AUTH_$(project_id)s"}, True),
        ({"storage_url": "http://swift/v1/AUTH_x"}, False),
        ({"cloud": "matrix"}, False),
        ({"cloud": "matrix", "storage_url": "http://ceph/swift/v1"}, False),
        ({"auth": {"auth_url": "http://keystone/v3"}}, False),
        ({"auth_type": "none", "auth": {"endpoint": "http://swift/v1/AUTH_x"}}, False),
    ],
)
def test_what_the_environment_decides(entry: dict[str, Any], depends: bool) -> None:
    """The environment of Synapse may be another one than the script's."""
    config = {"container": "c", **entry}
    module = "swift_provider.SwiftStorageProviderBackend"
    options = {"media_storage_providers": [{"module": module, "config": config}]}
    homeserver = Homeserver(options, "homeserver.yaml")
    if not depends:
        check_place(homeserver, homeserver.settings({}))
        return
    with pytest.raises(ConfigError, match="leaves it to the environment"):
        check_place(homeserver, homeserver.settings({}))


def test_another_sign_in() -> None:
    """auth chooses the project, so it belongs to the place; its content is not told."""
    module = "swift_provider.SwiftStorageProviderBackend"
    config = {"container": "c", "cloud": "matrix", "auth": {"project_name": "p", "password": "x1"}}
    options = {"media_storage_providers": [{"module": module, "config": config}]}
    homeserver = Homeserver(options, "homeserver.yaml")
    check_place(homeserver, homeserver.settings({"cloud": "matrix"}))
    with pytest.raises(ConfigError, match=r"matrix, with its own auth\. Leave") as caught:
        check_place(homeserver, parse_settings({"container": "c", "cloud": "matrix"}))
    assert "x1" not in str(caught.value)


def test_an_environment_that_is_not_synapses(
    offload: Script, store: SynapseStore, objects: Objects
) -> None:
    """The only cloud of clouds.yaml, or the OS_* variables of this shell: none is proof."""
    path = store.add_local("abcdef")
    offload.configure(store, container=objects.container)
    assert offload("update", store.base, "2m").returncode == 0
    assert offload("upload", store.base).returncode == 0
    ended = offload("upload", store.base, "--delete")
    assert ended.returncode == 2
    assert "cloud: NAME" in ended.stderr
    assert store.files() == {path}
    assert offload("upload", store.base, "--delete", "--even-so").returncode == 0
    assert store.files() == set()


def test_the_entrys_cloud_as_a_flag(
    offload: Script, store: SynapseStore, objects: Objects, account: Credentials
) -> None:
    """--cloud that repeats the entry's signs in with the entry's auth: to the same project."""
    path = store.add_local("abcdef")
    config = {"container": objects.container, "cloud": "matrix", "region_name": REGION}
    offload.configure(store, **config, auth={"username": "nobody"})
    assert offload("update", store.base, "2m").returncode == 0
    ended = offload("upload", store.base, "--delete", "--cloud", "matrix")
    assert ended.returncode == 3, ended.stderr
    assert store.files() == {path}
    offload.configure(store, **config, auth={"username": account.auth()["username"]})
    assert offload("upload", store.base, "--delete", "--cloud", "matrix").returncode == 0
    assert objects.names() == {path}


def test_two_accounts_with_the_same_names(
    offload: Script, store: SynapseStore, objects: Objects, account: Credentials
) -> None:
    """Of two entries that differ only in their sign-in, none is taken without --entry."""
    module = "swift_provider.SwiftStorageProviderBackend"
    here = {"container": objects.container, "region_name": REGION, "auth_type": "password"}
    elsewhere = {**here, "auth": {**account.auth(), "username": "nobody"}}
    entries = [elsewhere, {**here, "auth": account.auth()}]
    options = {
        "database": store.yaml_section,
        "media_storage_providers": [{"module": module, "config": one} for one in entries],
    }
    (offload.folder / "homeserver.yaml").write_text(yaml.safe_dump(options))
    path = store.add_local("abcdef")
    for command in (("verify", store.base), ("restore", store.base, objects.container)):
        ended = offload(*command)
        assert ended.returncode == 2
        assert "several entries for Swift" in ended.stderr
    upload = ("upload", store.base, "--all", "--delete", "--entry")
    assert offload(*upload, "0").returncode == 3
    assert store.files() == {path}
    assert offload(*upload, "1").returncode == 0
    assert objects.names() == {path}
    assert offload("verify", store.base, "--entry", "1").returncode == 0


def test_one_of_an_entrys_places(mirrors: Mirrors, store: SynapseStore) -> None:
    """Flags that lead to a mirror alone work without the others, and delete nothing."""
    path = store.add_local("abcdef")
    only_b = (mirrors.b.container, "--cloud", "matrix")
    assert mirrors.run("upload", store.base, *only_b, "--all")["uploaded"] == 1
    assert (mirrors.a.names(), mirrors.b.names()) == (set(), {path})
    ended = mirrors.plain("upload", store.base, *only_b, "--all", "--delete")
    assert ended.returncode == 2
    assert f"in container {mirrors.b.container}, cloud matrix only" in ended.stderr
    assert f"hold them: container {mirrors.a.container}, cloud matrix." in ended.stderr
    assert store.files() == {path}
    summary = mirrors.run("upload", store.base, *only_b, "--all", "--delete", "--even-so")
    assert "members" not in summary
    assert store.files() == set()


def test_flags_that_repeat_the_entry(mirrors: Mirrors, store: SynapseStore) -> None:
    """The mirrors stay."""
    path = store.add_local("abcdef")
    same = (mirrors.a.container, "--cloud", "matrix", "--threadpool-size", "3")
    summary = mirrors.run("upload", store.base, *same, "--all", "--delete")
    assert set(summary["members"]) == {"a", "b"}
    assert mirrors.a.names() == mirrors.b.names() == {path}
    assert store.files() == set()


@pytest.mark.parametrize(
    ("flags", "names", "sizes"),
    [
        ({}, ["a", "b"], [40, 7]),
        ({"container": "c", "prefix": "p"}, ["a", "b"], [40, 7]),
        ({"threadpool_size": 3}, ["a", "b"], [3, 3]),
        ({"prefix": "q"}, ["matrix"], [40]),
        ({"cloud": "other"}, ["other"], [40]),
        ({"region_name": "r"}, ["matrix"], [40]),
    ],
)
def test_which_places_flags_mean(flags: dict[str, Any], names: list[str], sizes: list[int]) -> None:
    """A place elsewhere has neither the entry's mirrors nor its name."""
    mirror = {"cloud": "second", "container": "c", "name": "b", "threadpool_size": 7}
    config = {"cloud": "matrix", "container": "c", "prefix": "p/", "name": "a", "mirrors": [mirror]}
    module = "swift_provider.SwiftStorageProviderBackend"
    options = {"media_storage_providers": [{"module": module, "config": config}]}
    members = Homeserver(options, "homeserver.yaml").settings(flags).members
    assert [member.label for member in members] == names
    assert [member.threadpool_size for member in members] == sizes


def test_a_mirror_that_the_environment_decides() -> None:
    """Each place has to be Synapse's."""
    config = {"cloud": "matrix", "container": "c", "mirrors": [{"container": "d"}]}
    module = "swift_provider.SwiftStorageProviderBackend"
    options = {"media_storage_providers": [{"module": module, "config": config}]}
    homeserver = Homeserver(options, "homeserver.yaml")
    with pytest.raises(ConfigError, match="leaves it to the environment"):
        check_place(homeserver, homeserver.settings({}))
