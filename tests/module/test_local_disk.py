"""The keeper of the disk in a real Synapse; its child process does what it is told."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests

from swift_provider.keeper import load_state
from tests.module.conftest import MODULE, OLDEST, MakeEntry
from tests.module.fake_child import FakeChild, done, report
from tests.module.homeservers import FORBIDDEN, Homeserver
from tests.module.other_synapse import python_with_synapse
from tests.module.storage import Storage
from tests.servers import process
from tests.servers.postgres import Postgres
from tests.servers.redis import running_redis
from tests.servers.synapse import Synapse, running
from tests.servers.synapse_workers import running_with_media_workers
from tests.servers.tls import make_ca

KEEPER = "swift_provider.module"
#: So much that no other program changes the free space by as much.
PETA = 10**15
EVERYTHING = done("keep", "repair", "orphans", on_disk=PETA, files=5, looked_at=3, removed=2)


def impatient(fake: FakeChild, look: float = 0.5, **schedule: Any) -> dict[str, Any]:
    """The module that makes Synapse look often, and start the child of the test."""
    return {
        "module": "tests.module.impatient.Impatient",
        "config": {
            f"{KEEPER}.disk_keeper": {"START_SECONDS": 0.1, "LOOK_SECONDS": look},
            f"{KEEPER}.keeper_process": {"COMMAND": fake.command},
            f"{KEEPER}.keeper_schedule": {"REST_SECONDS": 0.1, **schedule},
            f"{KEEPER}.keeper_site": {"QUIET_SECONDS": 0.0},
        },
    }


def wait(true: Callable[[], Any], log: Path) -> None:
    """Wait until a condition is true. Blocking."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, process.log_tail(log)
        time.sleep(process.POLL_SECONDS)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Place:
    """A homeserver that starts the test's child. Nobody has made its container.

    :param look: seconds between two looks.
    """

    def __init__(
        self,
        folder: Path,
        entry: MakeEntry,
        python: str | None = None,
        *,
        waits: bool = True,
        look: float = 0.5,
    ) -> None:
        self.fake = FakeChild(folder)
        self.fake.tell(EVERYTHING)
        self.container = uuid4().hex[:8]
        self.server = Homeserver(
            folder / "synapse",
            make_ca(folder / "ca"),
            python=python,
            media_storage_providers=[
                entry(
                    self.container,
                    waits=waits,
                    create_container=False,
                    local_disk={"max_size": str(2 * PETA)},
                )
            ],
            config={"modules": [impatient(self.fake, look, REPAIR_SECONDS=0.0)]},
            env={"SYNAPSE_TEST_SECRET": "hunter2"},
        )

    def wait(self, true: Callable[[], Any]) -> None:
        wait(true, self.server.log)

    def noted(self) -> bool:
        """Whether the last run is in the state file."""
        state = load_state(str(self.server.media_store))
        return state is not None and state.run is not None

    def metric(self, name: str) -> float | None:
        metrics = self.server.metrics()
        return next(
            (metrics[key] for key in metrics if key.startswith(f"synapse_swift_{name}{{")), None
        )


@pytest.fixture(params=["ours", OLDEST])
def python(request: pytest.FixtureRequest) -> str | None:
    """An interpreter with a Synapse that we support."""
    return python_with_synapse(OLDEST) if request.param == OLDEST else None


@pytest.fixture
def place(tmp_path: Path, entry: MakeEntry, python: str | None) -> Iterator[Place]:
    made = Place(tmp_path, entry, python)
    try:
        yield made
    finally:
        made.server.stop()
    log = made.server.log.read_text()
    assert not [line for line in log.splitlines() if FORBIDDEN.search(line)]
    assert "Traceback" not in log
    assert "hunter2" not in log


def test_runs_in_synapse(place: Place) -> None:
    """Runs begin by themselves, after uploads that fill the disk, and until Synapse stops."""
    place.server.start()
    place.wait(place.noted)
    (order,) = place.fake.orders
    assert order["tasks"] == ["keep", "orphans", "repair"]
    assert order["database"]["name"] == "sqlite3"
    assert order["database"]["args"]["database"] == str(place.server.folder / "homeserver.db")
    assert order["media_store"] == str(place.server.media_store)
    assert order["server_name"] == place.server.server_name
    assert order["environment"]["SYNAPSE_TEST_SECRET"] == "hunter2"
    assert order["repair_kinds"] == ["local", "remote"]
    assert place.metric("local_bytes") == PETA
    assert place.metric("local_limit_bytes") == 2 * PETA
    assert place.metric("local_removed_files_total") == 2
    assert "looked at 3 media, removed 2 files" in place.server.log.read_text()
    state = load_state(str(place.server.media_store))
    assert state is not None
    assert state.container == place.container
    assert state.pid == place.server.pid


@pytest.mark.parametrize("waits", [True, False])
def test_bytes_that_are_stored_start_a_run(
    tmp_path: Path, entry: MakeEntry, storage: Storage, waits: bool
) -> None:
    """An upload that fills the disk counts at once, long before the next look."""
    place = Place(tmp_path, entry, waits=waits, look=3600)
    place.fake.tell(done("keep", "repair", "orphans", on_disk=2 * PETA - 1000, files=5))
    storage.make(place.container)
    with running(place.server):
        place.wait(place.noted)
        place.server.user.upload(b"x")  # It takes a block.
        place.wait(lambda: len(place.fake.orders) == 2)
        assert place.fake.orders[1]["tasks"] == ["keep"]


def test_uploads_that_fail_start_a_run(place: Place) -> None:
    """A run looks for what Swift lacks; here there is no container."""
    place.server.start()
    place.wait(place.noted)
    with pytest.raises(requests.HTTPError):
        place.server.user.upload(b"x")
    place.wait(lambda: len(place.fake.orders) == 2)
    assert place.fake.orders[1]["tasks"] == ["repair"]


def test_uploads_that_fail_in_the_background(tmp_path: Path, entry: MakeEntry) -> None:
    """Synapse does not wait for them, and does not see that they fail."""
    place = Place(tmp_path, entry, waits=False)
    with running(place.server):
        place.wait(place.noted)
        place.server.user.upload(b"x")
        place.wait(lambda: len(place.fake.orders) == 2)
        assert place.fake.orders[1]["tasks"] == ["repair"]


def test_synapse_stops(place: Place) -> None:
    """Its child is gone soon, whatever it does; no secret could be listed."""
    place.fake.tell("ignore")
    place.server.start()
    place.wait(lambda: place.fake.ignores)
    (pid,) = place.fake.pids
    folder = Path(f"/proc/{pid}")
    listed = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
    order = place.fake.orders[0]
    secrets = [order["settings"]["auth"]["password"], "hunter2"]
    assert all(secret.encode() not in listed for secret in secrets)
    assert order["environment"]["SYNAPSE_TEST_SECRET"] == "hunter2"
    began = time.monotonic()
    place.server.stop()
    assert time.monotonic() - began < 10, "two seconds of its own, and Synapse's"
    assert not runs(pid)
    assert "died" not in place.server.log.read_text()


def test_synapse_is_killed(place: Place) -> None:
    """The child feels that its standard input is closed."""
    place.fake.tell(report(looked_at=1), "wait")
    place.server.start()
    place.wait(lambda: len(place.fake.orders) == 1)
    (pid,) = place.fake.pids
    place.server.kill()
    place.wait(lambda: not runs(pid))


def test_workers_that_share_a_disk(tmp_path: Path, entry: MakeEntry, postgres: Postgres) -> None:
    """One of them works, the first one prunes, and the other takes over from one killed."""
    mark = uuid4().hex[:8]
    fake = FakeChild(tmp_path)
    fake.tell(done("keep", "repair", "orphans", "prune", on_disk=PETA, files=5))
    limits = {"max_size": str(2 * PETA), "prune": True}
    options = {
        "database": postgres.create_database("synapse"),
        "media_storage_providers": [entry(f"{mark}-workers", local_disk=limits)],
        "config": {"modules": [impatient(fake)]},
        "log_contexts": True,
    }
    names = ("media1", "media2")
    store = tmp_path / "media_store"
    with (
        running_redis(tmp_path / "redis") as port,
        running_with_media_workers(
            tmp_path / "synapse", names, port, media_store=store, **options
        ) as started,
    ):
        homeserver, (first, second) = started
        wait(lambda: "so once that one has ended" in second.log.read_text(), second.log)
        assert re.search(r"media1, process \d+ keeps", second.log.read_text())
        wait(lambda: (load_state(str(store)) or 0) and fake.orders, first.log)
        (order,) = fake.orders
        assert set(order["tasks"]) == {"keep", "repair", "orphans", "prune"}
        assert order["database"]["name"] == "psycopg2"
        first.kill()
        wait(lambda: len(fake.orders) == 2, second.log)
        assert "keep" in fake.orders[1]["tasks"]
        assert "prune" not in fake.orders[1]["tasks"]
    for worker in (first, second):
        log = worker.log.read_text()
        assert not [line for line in log.splitlines() if FORBIDDEN.search(line)]
    assert "local_disk" not in homeserver.log.read_text()


def refusal(folder: Path, entries: list[dict[str, Any]], **config: Any) -> str:
    """The last line that a Synapse that does not start has written."""
    homeserver = Synapse(folder, media_storage_providers=entries, config=config)
    with pytest.raises(process.ServiceError):
        homeserver.start()
    return homeserver.log.read_text().strip().splitlines()[-1]


def test_no_media_store(tmp_path: Path, entry: MakeEntry) -> None:
    """Synapse keeps no media on its disk: there is nothing to keep within a budget."""
    last = refusal(
        tmp_path,
        [entry("media", local_disk={"max_size": "5G"})],
        enable_local_media_storage=False,
    )
    assert "media_storage_providers, container media: config.local_disk" in last
    assert "enable_local_media_storage is false" in last


def test_two_entries(tmp_path: Path, entry: MakeEntry) -> None:
    """Two budgets for one disk are refused."""
    limits = {"max_size": "5G"}
    last = refusal(
        tmp_path,
        [
            entry("one", local_disk=limits),
            entry("other"),
            entry("two", local_disk=limits, module=MODULE),
        ],
    )
    assert "config.local_disk may be in one entry only" in last
    assert "one and two" in last
