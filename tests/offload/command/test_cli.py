"""The script as a program: arguments, output, exit status. What needs no Swift."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psycopg2
import pytest
import yaml

from tests.offload.conftest import Script
from tests.offload.synapse_store import RECENT, SynapseStore
from tests.servers.postgres import Postgres


def test_help_is_quick(script: Script) -> None:
    """--help imports neither Twisted, nor a database driver, nor Synapse."""
    program = (
        "import sys; from swift_provider.offload import main; assert main(['--help']) == 0;"
        "print([m for m in ('twisted', 'psycopg2', 'synapse', 'tqdm', 'yaml') if m in sys.modules])"
    )
    interpreter = script.command()[0]
    ended = subprocess.run([interpreter, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert script("--help").returncode == 0


def test_commands_without_swift_start_at_once(script: Script) -> None:
    """They import neither Twisted nor a library for HTTP."""
    program = (
        "import sys; from swift_provider.offload import main;"
        "assert [main([command]) for command in ('write', 'check-deleted')] == [0, 2];"
        "print([m for m in ('twisted', 'treq', 'keystoneauth1') if m in sys.modules])"
    )
    ended = script.run([script.command()[0], "-c", program])
    assert ended.stdout == "[]\n", ended.stderr


def test_update(script: Script, any_store: SynapseStore) -> None:
    """update reads the database, looks at the disk, and says what it found."""
    any_store.add_local("oldlocal")
    any_store.add_local("gone-one", None)
    any_store.add_local("recent", accessed=RECENT)
    script.configure(any_store)
    ended = script("update", any_store.base, "2m")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert re.fullmatch(
        r"Syncing files that haven't been accessed since: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d.*",
        lines[0],
    )
    assert lines[1:] == ["Synced 2 new rows", "Updated 1 as deleted"]
    ended = script("write")
    assert ended.stdout == "local_content/ol/dl/ocal\nlocal_thumbnails/ol/dl/ocal/\n"
    ended = script("--cache-db", "other.db", "write", "-")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert script("write", "list.txt").returncode == 0
    assert (script.folder / "list.txt").read_text().startswith("local_content/ol/dl/ocal\n")


def test_base_path_from_homeserver_yaml(script: Script, store: SynapseStore) -> None:
    """Where homeserver.yaml names the media store, it need not be typed."""
    store.add_local("oldlocal")
    path = script.folder / "homeserver.yaml"
    options = {"database": store.yaml_section, "media_store_path": str(store.base)}
    path.write_text(yaml.safe_dump(options))
    ended = script("update", "2m")
    assert ended.stdout.splitlines()[1:] == ["Synced 1 new rows", "Updated 0 as deleted"]


@pytest.mark.parametrize(
    "shape", ["bare", "postgres", "dsn", "section", "databases", "sqlite", "sqlite section"]
)
def test_ways_to_name_the_database(
    script: Script, tmp_path: Path, request: pytest.FixtureRequest, shape: str
) -> None:
    """database.yaml holds psycopg2's arguments or SQLite's, or Synapse's section for either;
    homeserver.yaml has one or several.
    """
    arguments = None
    if not shape.startswith("sqlite"):
        server: Postgres = request.getfixturevalue("postgres")
        arguments = server.create_database(f"offload-shape-{shape}")
    store = SynapseStore(tmp_path, arguments)
    store.add_local("oldlocal")
    args = dict(store.config.args)
    options: list[str] = []
    if shape == "databases":
        main = {"name": "psycopg2", "data_stores": ["main"], "args": {**args, "cp_max": 3}}
        state = {"name": "psycopg2", "data_stores": ["state"], "args": {"dbname": "nowhere"}}
        config = {"databases": {"state": state, "main": main}}
        (script.folder / "conf.d").mkdir()
        (script.folder / "conf.d" / "db.yaml").write_text(yaml.safe_dump(config))
        (script.folder / "database.yaml").write_text("dbname: nowhere")
        options = ["--homeserver-config-path", "conf.d"]
    else:
        url = f"postgresql://{args.get('user')}@{args.get('host')}:{args.get('port')}"
        config = {
            "bare": args,
            "postgres": {"postgres": args},
            "dsn": {"dsn": f"{url}/{args.get('dbname')}"},
            "section": {"database": store.yaml_section},
            "sqlite": {"sqlite": args},
            "sqlite section": {"database": store.yaml_section},
        }[shape]
        (script.folder / "database.yaml").write_text(yaml.safe_dump(config))
    ended = script("update-db", "2m", *options)
    store.close()
    assert "Synced 1 new rows" in ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["update-db", "2x"], "is not a duration"),
        (["frobnicate"], "invalid choice"),
        ([], "required: COMMAND"),
        (["check-deleted", "/nowhere"], "is not a folder"),
        (["update-db", "2m"], "there is no homeserver.yaml in this folder. Either name it with"),
        (
            ["update", "2m"],
            "or run this in the folder that has it; or give BASE_PATH, and put a database.yaml",
        ),
        (["update-db", "2m", "--homeserver-config-path", "no.yaml"], "cannot read no.yaml"),
        (["upload", ".", "--threadpool-size", "4"], "or give CONTAINER, and put a database.yaml"),
        (["upload", ".", "name", "--threadpool-size", "0"], "--threadpool-size: N must be"),
    ],
)
def test_wrong_usage(script: Script, arguments: list[str], told: str) -> None:
    """A mistake is explained in a line, with exit status 2."""
    (script.folder / "local_content").mkdir()
    ended = script(*arguments)
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("command", "end"),
    [
        ("sync", "run this in the folder that has it\n"),
        ("status", "; or give BASE_PATH\n"),
        ("prune", "; or give CONTAINER, and put a database.yaml with psycopg2's arguments into "),
        ("verify", "; or give BASE_PATH and CONTAINER, and put a database.yaml"),
    ],
)
def test_no_homeserver_yaml(script: Script, command: str, end: str) -> None:
    """Only what would help the command is advised."""
    ended = script(command)
    assert ended.returncode == 2
    assert "there is no homeserver.yaml in this folder" in ended.stderr
    assert end in ended.stderr


def test_a_database_yaml_without_a_database(script: Script) -> None:
    """The message says what belongs into the file."""
    (script.folder / "database.yaml").write_text("foo: bar\n")
    ended = script("update-db", "2m")
    assert ended.returncode == 2
    assert "database.yaml names no database" in ended.stderr


def test_what_a_run_uses_is_named(script: Script, store: SynapseStore) -> None:
    """One line on standard error; not with --json, nor with --quiet."""
    script.configure(store)
    ended = script("update-db", "2m")
    database = store.config.args["database"]
    assert ended.stderr == f"Using {script.folder}/homeserver.yaml; database {database}\n"
    for option in ("--json", "-q"):
        assert script("update-db", "2m", option).stderr == ""


def test_quiet(script: Script, store: SynapseStore) -> None:
    """The summary is one line, with what happened."""
    store.add_local("gone-one", None)
    script.configure(store)
    ended = script("update", store.base, "2m", "-q")
    assert (ended.stdout, ended.stderr) == ("Synced 1 new rows; Updated 1 as deleted\n", "")
    assert script("update", store.base, "2m", "--quiet").stdout == "Nothing to do\n"


def test_secrets_are_not_shown(script: Script) -> None:
    """A configuration that cannot be read is named, and none of its text is quoted."""
    for text in (
        "password: 'hunter2\n",
        "password: *hunter2\n",
        "dsn: 'host=h password=x hunter2'\n",
        "hunter2",
    ):
        (script.folder / "database.yaml").write_text(text)
        ended = script("--log-level", "debug", "update-db", "2m")
        assert ended.returncode == 2
        assert "database.yaml" in ended.stderr
        assert "hunter2" not in ended.stderr + ended.stdout


def test_database_out_of_reach(script: Script) -> None:
    """A database that does not answer ends the script with status 3, without its password."""
    options = {"host": "127.0.0.1", "port": 1, "user": "u", "password": "hunter2", "dbname": "d"}
    (script.folder / "database.yaml").write_text(yaml.safe_dump(options))
    ended = script("update-db", "2m")
    assert ended.returncode == 3
    assert "Synapse's database (database.yaml): " in ended.stderr
    assert "hunter2" not in ended.stderr


def test_database_file_that_is_missing(script: Script, tmp_path: Path) -> None:
    """A SQLite file that cannot be opened is named in full, also if the configuration does not."""
    (script.folder / "homeserver.yaml").write_text(
        "database: {name: sqlite3, args: {database: homeserver.db}}"
    )
    ended = script("update-db", "2m")
    assert ended.returncode == 3
    assert f"({script.folder}/homeserver.db, from database in homeserver.yaml)" in ended.stderr
    assert not (script.folder / "homeserver.db").exists()


def test_database_of_something_else(script: Script, tmp_path: Path) -> None:
    """A database without media tables is told, with status 3."""
    sqlite3.connect(tmp_path / "other.db").close()
    (script.folder / "database.yaml").write_text(f"sqlite: {{database: '{tmp_path}/other.db'}}")
    ended = script("update-db", "2m")
    assert ended.returncode == 3
    assert "has none of Synapse's tables" in ended.stderr


def test_a_second_run_is_refused(script: Script, store: SynapseStore) -> None:
    """While one run has the cache, another says which process that is, and ends with status 2."""
    script.configure(store)
    os.mkfifo(script.folder / "pipe")
    running = script.start("write", "pipe")  # waits until somebody reads
    try:
        deadline = time.monotonic() + 30
        lock = script.folder / "cache.db.lock"
        while not (lock.exists() and lock.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        ended = script("update", store.base, "2m")
        assert ended.returncode == 2
        assert f"(process {running.pid})" in ended.stderr
    finally:
        (script.folder / "pipe").read_bytes()
        running.communicate()
    assert running.returncode == 0
    assert script("update", store.base, "2m").returncode == 0


def _wait_for_lock(script: Script) -> None:
    deadline = time.monotonic() + 30
    lock = script.folder / "cache.db.lock"
    while not (lock.exists() and lock.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_update(script: Script, store: SynapseStore, number: signal.Signals) -> None:
    """A command that is interrupted says so and ends with status 130."""
    script.configure(store)
    os.mkfifo(script.folder / "pipe")
    running = script.start("write", "pipe")
    _wait_for_lock(script)
    running.send_signal(number)
    _, told = running.communicate(timeout=30)
    assert running.returncode == 130
    assert told.startswith("Interrupted")


def test_nohup(script: Script, store: SynapseStore) -> None:
    """What nohup starts goes on when the terminal is closed."""
    script.configure(store)
    os.mkfifo(script.folder / "pipe")
    running = subprocess.Popen(
        ["nohup", *script.command("write", "pipe")], cwd=script.folder, env=script.environment
    )
    _wait_for_lock(script)
    running.send_signal(signal.SIGHUP)
    (script.folder / "pipe").read_bytes()
    assert running.wait(timeout=30) == 0


@pytest.mark.parametrize("content", [b"not a database, but long enough to be one" * 99, None])
def test_a_cache_that_is_none(script: Script, store: SynapseStore, content: bytes | None) -> None:
    """A damaged cache, and another program's database, are refused and left as they are."""
    script.configure(store)
    path = script.folder / "cache.db"
    if content is None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE media (id INTEGER)")
        connection.commit()
        connection.close()
        content = path.read_bytes()
    else:
        path.write_bytes(content)
    ended = script("update-db", "2m")
    assert ended.returncode == 2
    assert "cache" in ended.stderr
    assert path.read_bytes() == content


def test_full_disk(script: Script, store: SynapseStore) -> None:
    """No space for the list: the script says so and ends with status 3."""
    store.add_local("oldlocal")
    script.configure(store)
    assert script("update-db", "2m").returncode == 0
    ended = script("write", "/dev/full")
    assert ended.returncode == 3
    assert "No space left" in ended.stderr


def test_full_disk_under_the_cache(script: Script, store: SynapseStore, tmp_path: Path) -> None:
    """No space for the cache: status 3, and what it held before is still in it."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", small]).returncode:
        pytest.skip("needs a user that can mount")
    try:
        store.add_local("oldlocal", None)
        script.configure(store)
        options = ["--cache-db", str(small / "cache.db")]
        assert script(*options, "update-db", "2m").returncode == 0
        for number in range(5000):
            store.add_local(f"media-{number}", None)
        ended = script(*options, "update-db", "2m")
        assert ended.returncode == 3
        assert "full" in ended.stderr
        assert script(*options, "write").stdout.startswith("local_content/ol/dl/ocal\n")
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_reader_that_has_enough(script: Script, store: SynapseStore) -> None:
    """``write | head`` ends without complaint."""
    for number in range(3000):
        store.add_local(f"media-{number}", None)
    script.configure(store)
    script("update-db", "2m")
    running = script.start("write")
    assert running.stdout is not None
    running.stdout.readline()
    running.stdout.close()
    assert running.stderr is not None
    told = running.stderr.read()
    running.stderr.close()
    running.wait(timeout=30)
    assert told == ""


def test_a_cache_that_is_damaged_inside(script: Script, store: SynapseStore) -> None:
    """Each command that meets the damage names the file and says that it may be deleted."""
    for number in range(3000):
        store.add_local(f"media-{number}", None)
    script.configure(store)
    assert script("update-db", "2m").returncode == 0
    path = script.folder / "cache.db"
    content = bytearray(path.read_bytes())
    for offset in range(4096, len(content) - 4096, 4096):
        content[offset : offset + 64] = bytes(range(64))
    path.write_bytes(content)
    for arguments in (["write"], ["check-deleted", str(store.base)], ["update-db", "2m"]):
        ended = script(*arguments)
        assert ended.returncode == 3, ended.stderr
        assert "cache.db: " in ended.stderr
        assert "safe to delete" in ended.stderr
    path.unlink()
    assert script("update-db", "2m").returncode == 0


@pytest.mark.parametrize("command", ["update", "check-deleted", "upload", "restore"])
def test_two_caches_and_one_media_store(script: Script, store: SynapseStore, command: str) -> None:
    """A run with another cache is refused while one uses the media store, with status 2."""
    auth = {"auth_url": "http://127.0.0.1:1/v3", "username": "u", "password": "p"}
    auth.update(user_domain_id="d", project_name="p", project_domain_id="d")
    script.configure(store, container="c", auth=auth)
    running = script.start("--cache-db", "one.db", "restore", store.base)  # Retries for minutes.
    try:
        deadline = time.monotonic() + 30
        lock = script.folder / "one.db.lock"
        while not (lock.exists() and lock.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        more = ["2m"] if command == "update" else []
        ended = script("--cache-db", "two.db", command, store.base, *more)
        assert ended.returncode == 2, ended.stderr
        held = f"'swift_media_upload restore' is using the media store {store.base}"
        assert f"{held} (process {running.pid}): wait" in ended.stderr
        assert script("--cache-db", "two.db", "update-db", "2m").returncode == 0
    finally:
        running.kill()
        running.communicate()
    assert script("--cache-db", "two.db", "check-deleted", store.base).returncode == 0


def test_beside_a_pass_of_local_disk(script: Script, store: SynapseStore) -> None:
    """A run waits until the pass is over; Ctrl-C ends the wait."""
    script.configure(store)
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), 2); print(); input()"
    words = ["-c", hold, str(store.base), "-m", "swift_provider.offload.keeper"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *words], **pipes) as keeper:
        try:
            keeper.stdout.readline()
            running = script.start("update", store.base, "2m")
            assert running.stderr is not None
            assert "homeserver.yaml" in running.stderr.readline()  # It waits from now on.
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(timeout=3)
            running.send_signal(signal.SIGINT)
            _, stderr = running.communicate()
            assert running.returncode == 130, stderr
            assert "Interrupted: nothing is lost" in stderr
            running = script.start("update", store.base, "2m")
            with pytest.raises(subprocess.TimeoutExpired):
                running.communicate(timeout=3)
        finally:
            keeper.kill()
    _, stderr = running.communicate()
    assert running.returncode == 0, stderr


@pytest.mark.parametrize(
    ("command", "table", "number"),
    [
        ("update-db", "local_media_repository", signal.SIGINT),
        ("update-db", "local_media_repository", signal.SIGTERM),
        ("prune", "remote_media_cache", signal.SIGINT),
        # Jobs read this table, once they are running.
        ("upload", "local_media_repository_thumbnails", signal.SIGINT),
        ("verify", "local_media_repository_thumbnails", signal.SIGTERM),
    ],
)
def test_interrupted_while_a_table_is_locked(
    offload: Script,
    postgres: Postgres,
    tmp_path: Path,
    command: str,
    table: str,
    number: signal.Signals,
) -> None:
    """A signal ends the wait for a table that another session has locked."""
    folder = tmp_path / "postgres"
    store = SynapseStore(folder, postgres.create_database("offload"))
    store.add_local("oldlocal")
    homeserver = yaml.safe_load((offload.folder / "homeserver.yaml").read_text())
    homeserver.update(database=store.yaml_section, media_store_path=str(store.base))
    (offload.folder / "homeserver.yaml").write_text(yaml.safe_dump(homeserver))
    assert offload("update-db", "2m").returncode == 0
    blocker = psycopg2.connect(**store.config.args)
    with blocker.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    running = offload.start(command, *(["2m"] if command == "update-db" else []))
    watcher = psycopg2.connect(**store.config.args)
    watcher.autocommit = True
    with watcher.cursor() as cursor:
        deadline = time.monotonic() + 30
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while cursor.execute(blocked) or cursor.fetchone() != (1,):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.send_signal(number)
        began = time.monotonic()
        _, told = running.communicate(timeout=30)
        assert time.monotonic() - began < 5
        assert running.returncode == 130, told
        assert "Traceback" not in told
        assert "Failed" not in told
        while cursor.execute(blocked) or cursor.fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    watcher.close()
    blocker.close()
    store.close()
