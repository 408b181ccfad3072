"""What is taken from Synapse's configuration."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from swift_provider.errors import ConfigError
from swift_provider.offload.command.homeserver import MODULES, Homeserver, read_database_yaml

MODULE = "swift_storage_provider.SwiftStorageProviderBackend"


def _homeserver(*entries: Any, **options: Any) -> Homeserver:
    return Homeserver({"media_storage_providers": list(entries), **options}, "homeserver.yaml")


def _entry(module: str = MODULE, **config: Any) -> dict[str, Any]:
    return {"module": module, "store_local": True, "config": config}


def test_later_files_win(tmp_path: Path) -> None:
    """Files and folders are merged as Synapse does, by their top-level keys."""
    (tmp_path / "a.yaml").write_text("media_store_path: /a\ndatabase: {name: sqlite3}\n")
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "2.yaml").write_text("media_store_path: /2\n")
    (folder / "1.yaml").write_text("media_store_path: /1\n")
    (folder / "ignored.yml").write_text("media_store_path: /no\n")
    (folder / "empty.yaml").write_text("")
    read = Homeserver.read([str(tmp_path / "a.yaml"), str(folder)])
    assert read.media_store_path() == "/2"
    assert "database" in read.options


@pytest.mark.parametrize(
    "module",
    [
        "swift_provider.SwiftStorageProviderBackend",
        "swift_storage_provider.SwiftStorageProviderBackend",
    ],
)
def test_the_modules_entry(module: str) -> None:
    """The entry is found under both names of the module, among others'; flags win over it."""
    other = _entry("s3_storage_provider.S3StorageProviderBackend", bucket="b")
    read = _homeserver(other, _entry(module, container="c", prefix="p", threadpool_size=7))
    settings = read.settings({"prefix": "q", "cloud": None})
    assert (settings.container, settings.prefix, settings.threadpool_size) == ("c", "q/", 7)


def test_an_empty_prefix_wins() -> None:
    """--prefix '' takes the file's prefix away."""
    assert _homeserver(_entry(container="c", prefix="p")).settings({"prefix": ""}).prefix == ""


def test_another_cloud_takes_no_sign_in_from_the_file() -> None:
    """With --cloud, the password in the file is not sent to that cloud."""
    entry = _entry(container="c", auth_type="password", auth={"password": "secret"})
    settings = _homeserver(entry).settings({"cloud": "other"})
    assert (settings.cloud, settings.auth, settings.auth_type) == ("other", None, None)


def test_the_entrys_own_cloud_keeps_its_sign_in() -> None:
    """--cloud that says what the entry says changes nothing: auth chooses the project."""
    entry = _entry(container="c", cloud="one", auth={"project_name": "p"})
    assert _homeserver(entry).settings({"cloud": "one"}).auth == {"project_name": "p"}
    assert _homeserver(entry).settings({"cloud": "two"}).auth is None


@pytest.mark.parametrize("text", ["a: 2024-02-30", "a: !!int ''", "a: !!bool x"])
def test_a_value_that_yaml_cannot_read(tmp_path: Path, text: str) -> None:
    """The file is named."""
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.yaml is not valid YAML"):
        Homeserver.read([str(tmp_path / "a.yaml")])


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As conf.d, by another user."""

    def deny(path: str) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", deny)
    with pytest.raises(ConfigError, match=r"^cannot read /.*: Permission denied\. Run as Synapse"):
        Homeserver.read([str(tmp_path)])


def test_several_entries() -> None:
    """Of several entries, CONTAINER chooses; without it the containers are named."""
    read = _homeserver(_entry(container="a", prefix="x"), _entry(container="b", prefix="y"))
    assert read.settings({"container": "b"}).prefix == "y/"
    told = "--entry 0: container a, prefix x; --entry 1: container b, prefix y$"
    for flags in ({}, {"container": "c"}, {"container": "c", "prefix": "x"}, {"prefix": "z"}):
        with pytest.raises(ConfigError, match=told):
            read.settings(flags)


def test_several_entries_with_one_container() -> None:
    """Prefix, cloud, region and account URL choose too, in that order."""
    read = _homeserver(
        _entry(container="a", prefix="x", threadpool_size=1),
        _entry(container="a", prefix="y/", cloud="one", threadpool_size=2),
        _entry(container="a", prefix="y", cloud="two", threadpool_size=3),
        _entry(container="a", threadpool_size=4),
        _entry(container="b", region_name="r", threadpool_size=5),
        _entry(container="b", region_name="s", threadpool_size=6),
        _entry(container="b", storage_url="https://s/v1/A", threadpool_size=7),
    )
    choices: list[tuple[dict[str, str], int]] = [
        ({"prefix": "x"}, 1),
        ({"prefix": "x/", "container": "a"}, 1),
        ({"prefix": "y", "cloud": "one"}, 2),
        ({"cloud": "two"}, 3),
        ({"container": "a", "prefix": ""}, 4),
        ({"region_name": "r"}, 5),
        ({"container": "b", "region_name": "s", "prefix": "new"}, 6),
        ({"storage_url": "https://s/v1/A/"}, 7),
    ]
    for flags, chosen in choices:
        assert read.settings(flags).threadpool_size == chosen, flags
    assert read.settings(choices[6][0]).prefix == "new/"
    with pytest.raises(ConfigError) as caught:
        read.settings({"container": "a", "prefix": "y"})
    told = str(caught.value)
    for line in ("container a, prefix x;", "container a, no prefix;", "prefix y, cloud two;"):
        assert line in told
    assert "CONTAINER, --prefix, --cloud" in told


def test_several_entries_that_differ_in_their_sign_in() -> None:
    """No flag but --entry can choose; what is told of a sign-in is no secret."""

    def entry(size: int, **auth: str) -> dict[str, Any]:
        return _entry(container="a", auth={"password": "hunter2", **auth}, threadpool_size=size)

    other = _entry("s3_storage_provider.S3StorageProviderBackend")
    first, second = entry(1, auth_url="https://one/v3"), entry(2, auth_url="https://two/v3")
    read = _homeserver(first, other, second)
    for flags in ({}, {"container": "a"}, {"cloud": "x"}):
        with pytest.raises(ConfigError) as caught:
            read.settings(flags)
        assert "0: container a, no prefix, auth_url https://one/v3; --entry 2:" in str(caught.value)
        assert "hunter2" not in str(caught.value)
    assert read.settings({}, 0).threadpool_size == 1
    assert read.settings({"prefix": "p"}, 2).threadpool_size == 2
    for number in (1, 3, -1):
        with pytest.raises(ConfigError, match=f"--entry {number} is no entry for Swift"):
            read.settings({"container": "a"}, number)
    by_type = _homeserver(_entry(container="a", cloud="x"), {**_entry(**first["config"])})
    with pytest.raises(ConfigError, match="several entries"):
        by_type.settings({"container": "a"})
    assert by_type.settings({"cloud": "x"}).auth is None
    assert _homeserver(first, first).settings({}).threadpool_size == 1


def test_two_entries_for_one_place() -> None:
    """Entries that differ only in what Synapse stores need no choice."""
    entry = _entry(container="a", prefix="x")
    assert _homeserver(entry, {**entry, "store_remote": True}).settings({}).container == "a"


def test_a_mistake_is_named_with_its_place() -> None:
    """An unknown option is named with its full place in the file."""
    with pytest.raises(ConfigError, match=r"media_storage_providers\[1\]\.config\.contaner"):
        _homeserver(_entry("other"), _entry(contaner="c")).settings({})


def test_a_misspelt_module() -> None:
    """Without an entry of ours, the modules that are there are told, beside the right names."""
    read = _homeserver(_entry("s3.Backend"), _entry("swift_provider.SwiftProvider"), {"x": 1}, "y")
    with pytest.raises(ConfigError) as caught:
        read.settings({})
    told = str(caught.value)
    assert "its modules are s3.Backend, swift_provider.SwiftProvider, None, and none" in told
    assert all(name in told for name in MODULES)
    with pytest.raises(ConfigError, match="has an entry for Swift"):
        _homeserver().settings({})


def test_a_misspelt_module_beside_container(caplog: pytest.LogCaptureFixture) -> None:
    """CONTAINER is enough to go on, but the prefix may be missing: that is said."""
    settings = _homeserver(_entry("swift_provider.Swift", prefix="x")).settings({"container": "c"})
    assert settings.prefix == ""
    assert "Synapse will not find" in caplog.text
    assert "its modules are swift_provider.Swift, and none is" in caplog.text
    caplog.clear()
    _homeserver().settings({"container": "c"})
    _homeserver(_entry(container="c")).settings({"container": "c"})
    assert caplog.text == ""


def test_a_section_that_is_no_database(tmp_path: Path) -> None:
    """What stands under database: in database.yaml must be Synapse's section."""
    path = tmp_path / "database.yaml"
    path.write_text("database: {dbname: synapse, host: localhost}")
    with pytest.raises(ConfigError, match=r"database in .*: name must be psycopg2 or sqlite3"):
        read_database_yaml(str(path))
    path.write_text("database: synapse")
    assert read_database_yaml(str(path)).args == {"database": "synapse"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"databases": {"a": {"name": "psycopg2", "data_stores": ["state"]}}}, "'main'"),
        ({"database": {"name": "mysql"}}, "psycopg2 or sqlite3"),
        ({"database": {"name": "sqlite3", "args": {}}}, r"args\.database"),
        ({"database": ["x"]}, "key: value"),
        ({"media_storage_providers": {}, "database": "x"}, "key: value"),
    ],
)
def test_databases_that_cannot_be(options: dict[str, Any], told: str) -> None:
    """A database section that cannot be used says why."""
    with pytest.raises(ConfigError, match=told):
        Homeserver(options, "homeserver.yaml").database()


def test_database_path() -> None:
    """Synapse's short way to name a SQLite database is understood; none at all is None."""
    config = Homeserver({"database_path": "/x/homeserver.db"}, "h").database()
    assert config is not None
    assert (config.engine, config.args) == ("sqlite3", {"database": "/x/homeserver.db"})
    assert Homeserver({}, "").database() is None


def test_pool_options_are_dropped(tmp_path: Path) -> None:
    """Options of Synapse's connection pool are not psycopg2's; all others are passed on."""
    path = tmp_path / "database.yaml"
    args = {"dbname": "d", "port": 5433, "sslmode": "require", "cp_min": 5, "cp_openfun": "x"}
    path.write_text(yaml.safe_dump(args))
    config = read_database_yaml(str(path))
    assert config.args == {"dbname": "d", "port": 5433, "sslmode": "require"}
    path.write_text(yaml.safe_dump({"name": "psycopg2", "args": args}))
    assert read_database_yaml(str(path)).args == config.args


def test_a_password_is_not_in_the_repr(tmp_path: Path) -> None:
    """What is logged of a database has no password in it."""
    path = tmp_path / "database.yaml"
    path.write_text("password: hunter2")
    assert "hunter2" not in repr(read_database_yaml(str(path)))
