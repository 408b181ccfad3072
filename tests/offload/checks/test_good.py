"""``check`` on configurations that are right."""

from __future__ import annotations

import json
from pathlib import Path

from tests.offload.checks.conftest import Checked
from tests.offload.conftest import Objects
from tests.offload.synapse_store import SynapseStore
from tests.servers.keystone import Credentials
from tests.servers.postgres import Postgres


def test_one_place(checked: Checked) -> None:
    """All is ok, in the order of the way to Swift, and nothing is left there."""
    lines = checked.run(0, whole=True)
    # The media store belongs to another user; a busy machine takes long to import Synapse.
    usual = [line for line in lines if "belongs to" not in line and "takes more than" not in line]
    assert all(line.startswith("ok      ") for line in usual), lines
    assert checked.subjects(lines) == [
        "homeserver.yaml",
        "options",
        "cloud",
        "sign-in",
        "container",
        "clock",
        "large files",
        "rights",
        "segments",
        "database",
        "media store",
        "disk space",
        "Synapse",
    ]
    assert checked.objects.names() == set()


def test_the_last_line_counts(checked: Checked) -> None:
    """What is wrong may have scrolled away. With -q only that is printed."""
    lines = [line for line in checked.run(0) if not line.startswith("note")]
    assert checked.last in (f"All is well: {len(lines)} checks", "Nothing wrong, 1 note")
    checked.entry["store_remote"] = False
    noted = [line for line in checked.run(0) if line.startswith("note")]
    assert checked.last == f"Nothing wrong, {len(noted)} note{'s' if len(noted) > 1 else ''}"
    assert checked.run(0, "-q") == noted
    checked.config["container"] = "no-such"
    checked.wrong(3)
    assert checked.last == f"1 wrong, {len(noted)} note{'s' if len(noted) > 1 else ''}"
    quiet = checked.run(3, "-q")
    assert noted[0] in quiet
    assert len(quiet) == len(noted) + 1


def test_a_mirror(checked: Checked, account: Credentials) -> None:
    """The subjects of each place begin with its name. Segments are tried where they are kept."""
    other = Objects(account)
    other.make(f"{other.container}_segments")
    mirror = {"name": "b", "cloud": "matrix", "container": other.container, "prefix": "here/"}
    checked.config.update(name="a", mirrors=[mirror])
    lines = checked.run(0)
    steps = ("cloud", "sign-in", "container", "clock", "large files", "rights", "segments")
    subjects = checked.subjects(lines)
    assert subjects[2:16:1] == ["a", *["a"] * 6, *["b"] * 7]
    assert [line[8:].split(": ")[1] for line in lines if line[8:].startswith("a: ")] == [*steps]
    rights = f"write, read, list and delete were tried in {other.container}_segments"
    assert f"ok      b: segments: {rights}" in lines
    assert other.names() == checked.objects.names() == set()
    assert other.segments() == {}


def test_an_entry_that_names_no_cloud(checked: Checked) -> None:
    """It works, but the script would not delete by it."""
    del checked.config["cloud"]
    checked.script.environment["OS_CLOUD"] = "matrix"
    (note,) = (line for line in checked.run(0) if "--delete is refused" in line)
    assert note.startswith("note    cloud: the entry does not name it")


def test_two_entries(checked: Checked, account: Credentials) -> None:
    """Places of one cloud are told apart by container and prefix."""
    other = Objects(account)
    checked.write({"cloud": "matrix", "container": other.container, "prefix": "here/"})
    ended = checked.script("check")
    assert ended.returncode == 0, ended.stdout
    lines = ended.stdout.splitlines()
    assert lines[1] == "ok      options: 2 entries for Swift"
    first = f"matrix/{checked.objects.container}: rights"
    assert any(line.startswith(f"ok      {first}: ") for line in lines)
    second = f"matrix/{other.container}/here: rights"
    assert any(line.startswith(f"ok      {second}: ") for line in lines)


def test_postgres(checked: Checked, postgres: Postgres, tmp_path: Path) -> None:
    """Its database is named without the password; whose media are in it is said."""
    store = SynapseStore(tmp_path / "other", postgres.create_database("check"))
    store.execute(
        "INSERT INTO local_media_repository (media_id, user_id) VALUES ('x', '@a:here.example')"
    )
    checked.homeserver["database"] = store.yaml_section
    (line,) = (one for one in checked.run(0) if "database: " in one)
    store.close()
    assert line.startswith("ok      database: ")
    assert line.endswith(", with media of here.example")


def test_json(checked: Checked) -> None:
    """A list with subject, verdict and text of each finding."""
    checked.write()
    told = json.loads(checked.script("check", "--json").stdout)
    assert told["status"] == 0
    assert {tuple(one) for one in told["checks"]} == {("subject", "verdict", "text")}
    (rights,) = (one for one in told["checks"] if one["subject"] == "rights")
    assert rights == {
        "subject": "rights",
        "verdict": "ok",
        "text": f"write, read, list and delete were tried in {checked.objects.container}",
    }
