"""What a run says, and how long it waits, if Swift or Keystone cannot be reached."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from swift_provider.errors import AuthUnavailableError, ConnectionFailedError
from swift_provider.offload.command import slow, stalls
from swift_provider.offload.command.arguments import parse
from swift_provider.offload.command.homeserver import MODULES
from swift_provider.offload.command.inputs import Inputs
from swift_provider.offload.command.slow import told_if_slow, told_if_stalled
from swift_provider.offload.command.swift_waits import QUIET_SECONDS, SwiftWaits
from swift_provider.offload.progress import Progress
from tests.offload.conftest import Script
from tests.offload.mirrors import closed_url
from tests.offload.synapse_store import SynapseStore


def sign_in_free(script: Script, folder: Path) -> None:
    """Give the script a cloud that needs no sign-in."""
    clouds = {"clouds": {"matrix": {"auth_type": "none"}}}
    (folder / "clouds.yaml").write_text(yaml.safe_dump(clouds))
    script.environment["OS_CLIENT_CONFIG_FILE"] = str(folder / "clouds.yaml")


def test_swift_on_a_wrong_port(script: Script, store: SynapseStore, tmp_path: Path) -> None:
    """The first failure is told at once, with the server; the run ends after some 15 seconds."""
    sign_in_free(script, tmp_path)
    url = closed_url()
    server = urlsplit(url).netloc
    script.configure(store, cloud="matrix", container="media", storage_url=url)
    ended = script("upload", store.base, "--dry-run")
    assert ended.returncode == 3
    told = [line for line in ended.stderr.splitlines() if "Swift at" in line]
    assert told == [
        f"Cannot reach Swift at {server}: connection refused. Retrying for 15 seconds; "
        "Ctrl-C stops.",
        f"swift_media_upload: HEAD media: cannot reach Swift at {server}: connection refused. "
        "Check storage_url, or else Swift's URL in Keystone's catalogue, and whether Swift runs "
        "there",
    ]


def test_a_wrong_auth_url(script: Script, store: SynapseStore) -> None:
    """The same with Keystone; the sign-in's own warnings do not repeat it."""
    auth = {
        "auth_url": f"http://{urlsplit(closed_url()).netloc}/v3",
        "user_id": "u",
        "password": "secret-word",
        "project_id": "p",
    }
    script.configure(store, container="media", auth_type="v3password", auth=auth)
    ended = script("upload", store.base)
    assert ended.returncode == 3
    first, last = (line for line in ended.stderr.splitlines() if "Keystone" in line)
    reason = f"Keystone at {auth['auth_url']} cannot be reached: Connection refused"
    assert first.startswith(reason)
    assert first.endswith("Retrying for 15 seconds; Ctrl-C stops.")
    assert last.startswith(f"swift_media_upload: {reason}")
    assert "check auth_url and the network" in last


class Waits(SwiftWaits):
    """With a clock of the test's, and what was told."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__("mirror", lambda: self.now)
        self.told: list[str] = []
        self.note = self.told.append


REFUSED = ConnectionFailedError("cannot reach Swift at x:1: connection refused", operation="GET")


def test_an_outage_in_the_middle_of_a_run() -> None:
    """It is told once it has lasted for ten seconds, and once."""
    waits = Waits()
    waits.exchange_finished("HEAD", 204, 0.1)
    REFUSED.mirror = "mirror"
    waits.retry_waits(REFUSED, 300)
    assert waits.told == []
    waits.now += QUIET_SECONDS
    for _ in range(3):
        waits.retry_waits(REFUSED, 300)
    expected = (
        "mirror: Cannot reach Swift at x:1: connection refused. Retrying for 5 minutes; "
        "Ctrl-C stops."
    )
    assert waits.told == [expected]
    waits.exchange_finished("GET", 200, 0.1)
    waits.now += QUIET_SECONDS
    waits.retry_waits(REFUSED, 300)
    assert waits.told == [expected, expected]
    assert waits.remedy == ""


def test_the_place_that_is_waited_for_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With mirrors, it is that which does not answer."""
    monkeypatch.chdir(tmp_path)
    options = {"cloud": "a", "container": "media"}
    for mirrors, expected in (([], "Swift"), ([{**options, "cloud": "b"}], "Swift b")):
        entry = {"module": MODULES[0], "config": {**options, "mirrors": mirrors}}
        content = yaml.safe_dump({"server_name": "here", "media_storage_providers": [entry]})
        (tmp_path / "homeserver.yaml").write_text(content)
        inputs = Inputs(parse(["sync"]))
        for member in inputs.settings().members:
            waits = inputs.watch(member)
        assert inputs.waits_for() == "the disk"
        waits.slots_changed(1, 0)
        assert inputs.waits_for() == expected


def test_bytes_are_a_sign_of_life() -> None:
    """A retry beside a transfer that goes on is not worth a line."""
    waits = Waits()
    waits.exchange_finished("HEAD", 204, 0.1)
    for sign in (waits.sent, waits.received):
        waits.now += QUIET_SECONDS
        sign(100)
        waits.retry_waits(REFUSED, 300)
    assert waits.told == []


def test_the_remedy_is_that_of_swift() -> None:
    """A sign-in that fails has a remedy of its own."""
    waits = Waits()
    waits.retry_waits(AuthUnavailableError("Keystone cannot be reached"), 15)
    assert waits.remedy == ""
    waits.retry_waits(REFUSED, 15)
    assert "storage_url" in waits.remedy


def test_a_refused_sign_in(offload: Script, store: SynapseStore) -> None:
    """The message names the cloud, the file that it comes from, and what to check."""
    path = Path(offload.environment["OS_CLIENT_CONFIG_FILE"])
    clouds = yaml.safe_load(path.read_text())
    clouds["clouds"]["matrix"]["auth"]["password"] = "wrong"
    path.write_text(yaml.safe_dump(clouds))
    ended = offload("upload", store.base)
    assert ended.returncode == 3
    last = ended.stderr.splitlines()[-1]
    assert f" refuses the cloud 'matrix' ({path}): " in last
    assert "(HTTP 401)" in last
    assert ". Check username, password, project_name, user_domain_name and" in last


def test_a_slow_database_is_named() -> None:
    """A line tells what a command waits for; there is none if it is quick."""
    told: list[str] = []
    heard = threading.Event()

    def note(line: str) -> None:
        told.append(line)
        heard.set()

    with told_if_slow("Waiting for the database", note, 60):
        pass
    with told_if_slow("Waiting for the database", None, 0):
        pass
    assert told == []
    with told_if_slow("Waiting for the database", note, 0):
        assert heard.wait(10)
    assert told == ["Waiting for the database"]


def test_a_stall_is_told_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the block makes no progress, and no longer after it."""
    monkeypatch.setattr(stalls, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(slow, "LOOK_SECONDS", 0.01)
    told: list[str] = []
    told_once = threading.Event()

    class Told(Progress):
        def waits(self, text: str) -> None:
            told.append(text)
            told_once.set()

    with told_if_stalled(Told(), lambda: "the disk"):
        assert told_once.wait(10)
    assert told[0].startswith("Waiting for the disk for ")
    assert told[-1] == ""
