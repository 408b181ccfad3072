"""One run with two places in Swift: what leaves the disk has to be in both."""

from __future__ import annotations

import hashlib
import time

import pytest

from swift_provider.keeper import Task, Trouble
from tests.offload.conftest import Objects
from tests.offload.keeper.conftest import Keeper
from tests.offload.keeper.test_run import SIZE, TAKEN, fill
from tests.offload.mirrors import closed_url
from tests.servers.keystone import Credentials

#: What is read from either database is the same; see test_run.py.
pytestmark = pytest.mark.parametrize("any_store", ["postgres"], indirect=True)

#: Of the process: it waits five seconds for a place that does not answer.
_IMPATIENT = """
from swift_provider.client import Patience
from swift_provider.offload.jobs import members
from swift_provider.offload.keeper.__main__ import main
members.START_SECONDS = 5.0
Patience.MODULE = Patience(
    total_seconds=0.5, first_delay=0.05, longest_delay=0.1, operation_seconds=10.0
)
main()
"""

#: In two days.
_LATER = """
from datetime import timedelta
from swift_provider.offload.jobs import prune
from swift_provider.offload.keeper.__main__ import main
now = prune.now
prune.now = lambda: now() + timedelta(days=2)
main()
"""


@pytest.fixture
def mirror(keeper: Keeper, objects: Objects, account: Credentials) -> Objects:
    """The second place; the order names both."""
    made = Objects(account)
    keeper.options |= {"name": "a", "threadpool_size": 8}
    keeper.options["mirrors"] = [{"name": "b", "cloud": "matrix", "container": made.container}]
    return made


def _close(keeper: Keeper) -> None:
    """The second place is unreachable from now on."""
    keeper.code = _IMPATIENT
    keeper.options["mirrors"][0]["storage_url"] = closed_url()


def test_both_places_get_what_goes(keeper: Keeper, objects: Objects, mirror: Objects) -> None:
    """Also what one of them has already."""
    paths = fill(keeper.store, 4)
    objects[paths[0]] = bytes([0]) * SIZE
    mirror[paths[1]] = bytes([1]) * SIZE
    report = keeper.run(Task.KEEP, max_size=1).report
    assert keeper.store.files() == set()
    assert objects.names() == mirror.names() == set(paths)
    assert (report.removed, report.uploaded, report.failed) == (4, 4, {})
    assert (report.done, report.troubles) == ([Task.KEEP], {})


def test_other_bytes_in_the_mirror(keeper: Keeper, objects: Objects, mirror: Objects) -> None:
    """The file stays on the disk."""
    paths = fill(keeper.store, 3)
    mirror[paths[1]] = bytes(SIZE)
    report = keeper.run(Task.KEEP, max_size=1).report
    assert keeper.store.files() == {paths[1]}
    assert report.failed == {"b: Swift has another file under this name": 1}


def test_nothing_goes_without_the_mirror(keeper: Keeper, objects: Objects, mirror: Objects) -> None:
    """The other tasks are done as far as they can be: the other place gets what it lacks."""
    paths = fill(keeper.store, 3)
    _close(keeper)
    report = keeper.run(Task.KEEP, Task.REPAIR, max_size=1).report
    assert keeper.store.files() == objects.names() == set(paths)
    assert (report.removed, report.freed, report.over) == (0, 0, 3 * TAKEN - 1)
    assert report.done == []
    assert report.troubles[Trouble.SWIFT].startswith("b: HEAD ")
    assert report.troubles[Trouble.SWIFT].endswith("3 files could not be uploaded yet")
    assert report.failed == {"not in b": 3}
    assert Trouble.SWIFT not in report.answered


def test_a_repair_of_the_mirror(keeper: Keeper, objects: Objects, mirror: Objects) -> None:
    """Each place gets what it lacks; what both have is not even opened."""
    paths = fill(keeper.store, 4)
    for path in paths[1:]:
        objects[path] = bytes([paths.index(path)]) * SIZE
    for path in paths[:3]:
        mirror[path] = bytes([paths.index(path)]) * SIZE
    report = keeper.run(Task.REPAIR).report
    assert keeper.store.files() == objects.names() == mirror.names() == set(paths)
    assert (report.uploaded, report.done, report.troubles) == (2, [Task.REPAIR], {})


def test_a_repair_that_may_be_of_a_bad_file(
    keeper: Keeper, objects: Objects, mirror: Objects
) -> None:
    """A place gets no file that differs from the object of another, and may be the bad one. A
    file that has the SHA-256 in the database is not bad.
    """
    bad, lost = (
        keeper.store.add_local("abcdef", bytes(5)),
        keeper.store.add_local("fedcba", b"lost"),
    )
    digest = hashlib.sha256(b"right").hexdigest()
    right = keeper.store.add_local("ghijkl", b"right", sha256=digest)
    mirror[bad], mirror[right] = b"right", b"wrong"
    report = keeper.run(Task.REPAIR).report
    assert objects.names() == {lost, right}
    assert mirror[bad] == b"right"
    assert report.failed == {"b: Swift has another file under this name": 1}
    assert report.uploaded == 2


def test_a_prune_without_the_mirror(keeper: Keeper, objects: Objects, mirror: Objects) -> None:
    """The other place is looked at; the task is not done."""
    fill(keeper.store, 2)
    assert keeper.run(Task.PRUNE).report.done == [Task.PRUNE]
    _close(keeper)
    report = keeper.run(Task.PRUNE).report
    assert report.done == []
    assert report.troubles[Trouble.SWIFT].startswith("b: HEAD ")


def test_a_prune_with_a_wrong_database(keeper: Keeper, objects: Objects, mirror: Objects) -> None:
    """The objects of one place show it: nothing is deleted from the other one either."""
    keeper.code = _LATER
    fill(keeper.store, 10)
    assert keeper.run(Task.REPAIR).report.uploaded == 10
    newer = [f"local_content/ne/we/r{number:03}" for number in range(40)]
    for held, paths in ((objects, newer[:2]), (mirror, newer[2:])):
        for path in paths:
            held[path] = b"stored after the copy was made"
            held.post(path, {"X-Object-Meta-Matrix-Server": "here.example"})
    later = int((time.time() + 2 * 86_400) * 1000)
    keeper.store.execute("UPDATE local_media_repository SET last_access_ts = %s", (later,))
    report = keeper.run(Task.PRUNE).report
    assert (report.done, report.pruned) == ([], 0)
    assert report.troubles[Trouble.REFUSED].startswith("Nothing was pruned from ")
    assert set(newer[:2]) <= objects.names()


def test_a_container_is_missing(keeper: Keeper, objects: Objects, mirror: Objects) -> None:
    """A person has to make it: nothing goes, and the trouble names the place."""
    paths = fill(keeper.store, 2)
    keeper.options["mirrors"][0]["container"] = "no-such-container"
    report = keeper.run(Task.KEEP, max_size=1).report
    assert keeper.store.files() == set(paths)
    assert report.troubles[Trouble.REFUSED].startswith("b: HEAD no-such-container: ")


def test_two_names_for_one_place(keeper: Keeper, objects: Objects, mirror: Objects) -> None:
    """Nothing goes, and the trouble names both."""
    paths = fill(keeper.store, 2)
    keeper.options["mirrors"][0] |= {"container": objects.container, "region_name": "RegionOne"}
    report = keeper.run(Task.KEEP, max_size=1).report
    assert keeper.store.files() == set(paths)
    assert report.troubles[Trouble.REFUSED].startswith("a and b lead to the same objects: ")


def test_refused_credentials_of_the_mirror(
    keeper: Keeper, objects: Objects, mirror: Objects, account: Credentials
) -> None:
    """A person has to correct them: the other place still gets what it lacks."""
    paths = fill(keeper.store, 2)
    keeper.options["mirrors"][0] |= {"cloud": None, "auth": {**account.auth(), "password": "wrong"}}
    report = keeper.run(Task.REPAIR, max_size=1).report
    assert report.troubles.keys() == {Trouble.REFUSED}
    assert report.troubles[Trouble.REFUSED].startswith("b: ")
    assert (report.done, report.failed) == ([], {"not in b": 2})
    assert objects.names() == set(paths)


def test_a_mistake_about_the_mirror(keeper: Keeper, objects: Objects, mirror: Objects) -> None:
    """Its container is gone: the other place still gets what it lacks, and is pruned."""
    paths = fill(keeper.store, 2)
    keeper.options["mirrors"][0]["container"] = "no-such-container"
    report = keeper.run(Task.KEEP, Task.REPAIR, Task.PRUNE, max_size=1).report
    assert report.troubles[Trouble.REFUSED].startswith("b: HEAD no-such-container: ")
    assert objects.names() == set(paths)
