"""With ``--json`` each command prints one JSON object, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore

COMMANDS = (
    *("update-db", "check-deleted", "update", "write"),
    *("upload", "verify", "prune", "restore", "stats"),
)


def _arguments(command: str, store: SynapseStore) -> list[str]:
    """A command line that needs nothing else."""
    base = [] if command in ("update-db", "write", "prune") else [str(store.base)]
    return [command, *base, *(["2m"] if command.startswith("update") else [])]


@pytest.mark.parametrize("command", COMMANDS)
def test_success(offload: Script, store: SynapseStore, objects: Objects, command: str) -> None:
    """The figures of each command, and its exit status."""
    store.add_local("oldlocal")
    store.add_local("gone-one", None)
    offload("update", store.base, "2m")
    objects["local_content/ol/dl/ocal"] = b"local content"
    objects["local_content/go/ne/-one"] = b""
    summary = offload.json(*_arguments(command, store))
    assert summary["status"] == 0
    wanted = {
        "update-db": {"new": 0, "gone": 0, "refused": 0},
        "check-deleted": {"deleted": 0, "returned": 0, "unsafe": 0},
        "update": {"new": 0, "deleted": 0},
        "write": {
            "paths": ["local_content/ol/dl/ocal", "local_thumbnails/ol/dl/ocal/"],
            "skipped": 0,
        },
        "upload": {"media": 1, "already_there": 1},
        "verify": {"on_disk_and_in_swift": 1, "only_in_swift": 1},
        "prune": {"objects_listed": 2},
        "restore": {"restored": 1},
        "stats": {"unreadable": 0, "swift": []},
    }[command]
    assert wanted.items() <= summary.items()


def test_write_to_a_file(script: Script, store: SynapseStore) -> None:
    """``write OUT --json`` prints the object, and the list goes to the file."""
    store.add_local("oldlocal")
    script.configure(store)
    assert script.json("write", "list")["status"] == 0
    assert script.json("write")["paths"] == []
    script("update-db", "2m")
    assert len(script.json("write")["paths"]) == 2
    assert script.json("write", "list") == {"skipped": 0, "status": 0, "told": ""}
    assert len((script.folder / "list").read_text().splitlines()) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_configuration(script: Script, store: SynapseStore, command: str) -> None:
    """A mistake in the configuration: the message and status 2."""
    (script.folder / "homeserver.yaml").write_text("[]")
    summary = script.json(*_arguments(command, store), status=2)
    assert summary["status"] == 2
    assert summary["error"] in summary["told"]
    assert "homeserver.yaml" in summary["error"]


@pytest.mark.parametrize("line", ["frobnicate", "update", "upload a b c", "--cache-db", "write -x"])
def test_wrong_usage(script: Script, line: str) -> None:
    """A mistake on the command line: likewise."""
    summary = script.json(*line.split(), status=2)
    assert summary["status"] == 2
    assert summary["error"] in summary["told"]


def test_out_of_reach(script: Script, store: SynapseStore) -> None:
    """A database out of reach, and a Swift out of reach: status 3."""
    (script.folder / "database.yaml").write_text("{host: 127.0.0.1, port: 1, dbname: x}")
    summary = script.json("update-db", "2m", status=3)
    assert (summary["status"], "refused" in summary["error"]) == (3, True)
    (script.folder / "database.yaml").unlink()
    auth = {"auth_url": "http://127.0.0.1:1/v3", "username": "u", "password": "p"}
    auth.update(user_domain_id="d", project_name="p", project_domain_id="d")
    script.configure(store, container="c", auth=auth)
    running = script.start("prune", "--json")
    while "Retrying for" not in running.stderr.readline():
        pass
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=60)
    summary = json.loads(out)
    assert (summary["status"], summary["interrupted"], running.returncode) == (130, True, 130)


def test_interrupted(script: Script, store: SynapseStore) -> None:
    """Ctrl-C: status 130."""
    script.configure(store)
    os.mkfifo(script.folder / "pipe")
    running = script.start("write", "pipe", "--json")
    deadline = time.monotonic() + 30
    lock = script.folder / "cache.db.lock"
    while not (lock.exists() and lock.read_text().strip()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=30)
    assert json.loads(out) == {"error": "interrupted", "status": 130}
    assert running.returncode == 130


def test_a_container_that_is_missing(offload: Script, store: SynapseStore) -> None:
    """Swift refuses: the error, the figures, and status 3."""
    summary = offload.json("prune", "no-such-container", status=3)
    assert summary["status"] == 3
    assert "no-such-container" in summary["error"]
