"""``sync`` with three places, of which one may fail."""

from __future__ import annotations

import os
from typing import Any

import pytest
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Objects
from tests.offload.mirrors import Mirrors, closed_url
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faults import Answer, FlipBit, in_response
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift

PATH = "local_content/aa/bb/cccc"


def _three(mirrors: Mirrors, account: Credentials, of_c: dict[str, Any], **of_b: Any) -> Objects:
    """A third place, ``c``."""
    made = Objects(account)
    options = mirrors.options({}, of_b)
    options["mirrors"].append({"name": "c", "cloud": "matrix", "container": made.container, **of_c})
    mirrors.script.configure(mirrors.store, **options)
    return made


def test_one_is_unreachable(mirrors: Mirrors, account: Credentials) -> None:
    """The other two get from each other what they lack. Status 1."""
    _three(mirrors, account, {"storage_url": closed_url()})
    mirrors.a[PATH] = b"content"
    summary = mirrors.run("sync", status=1)
    assert PATH in mirrors.b.names()
    assert summary["copied"] == {"a": 0, "b": 1, "c": 0}
    assert summary["members"]["c"]["left_out"].startswith("HEAD ")
    assert "c is left out of the rest of this run: HEAD " in summary["told"]
    assert "Left out of this run: c: HEAD " in mirrors.plain("sync").stdout


def test_two_are_unreachable(mirrors: Mirrors, account: Credentials) -> None:
    """Nothing is left to copy between."""
    _three(mirrors, account, {"storage_url": closed_url()}, storage_url=closed_url())
    assert mirrors.run("sync", status=3)["error"].startswith("c: HEAD ")


def test_the_only_target_is_unreachable(mirrors: Mirrors, account: Credentials) -> None:
    """There are two places to copy from, and none to copy to."""
    _three(mirrors, account, {"storage_url": closed_url()})
    assert mirrors.run("sync", "--to", "c", status=3)["error"].startswith("c: HEAD ")


async def test_one_denies_its_listing(
    mirrors: Mirrors, swift: Swift, account: Credentials, proxy: FaultProxy
) -> None:
    """It is left out; the third place gets what it lacks."""
    proxy.add(Answer(403, times=None, match=("GET", r"\?format=json")))
    url = proxy.url_for(swift.account_url(account.project_id))
    c = _three(mirrors, account, {}, storage_url=url)
    mirrors.a[PATH] = b"content"
    summary = await deferToThread(mirrors.run, "sync", status=1)
    assert PATH in c.names()
    assert summary["members"]["b"]["left_out"].startswith("GET ")


async def test_one_denies_an_object(
    mirrors: Mirrors, swift: Swift, account: Credentials, proxy: FaultProxy
) -> None:
    """One object that the second place does not take comes to the third."""
    proxy.add(Answer(403, times=None, match=("PUT", "/local_content/")))
    url = proxy.url_for(swift.account_url(account.project_id))
    c = _three(mirrors, account, {}, storage_url=url)
    mirrors.a[PATH] = b"content"
    summary = await deferToThread(mirrors.run, "sync", status=1)
    assert PATH in c.names()
    assert (summary["copied"]["c"], sum(summary["failed"].values())) == (1, 1)


async def test_one_does_not_say_what_it_has(
    mirrors: Mirrors, swift: Swift, account: Credentials, proxy: FaultProxy
) -> None:
    """The third place gets the object; the second is named."""
    proxy.add(Answer(503, times=None, match=("HEAD", PATH)))
    url = proxy.url_for(swift.account_url(account.project_id))
    c = _three(mirrors, account, {}, storage_url=url)
    mirrors.a[PATH] = b"content"
    summary = await deferToThread(mirrors.run, "sync", status=1)
    assert PATH in c.names()
    assert PATH not in mirrors.b.names()
    (reason,) = summary["failed"]
    assert reason.startswith("b: ")


@pytest.mark.parametrize("lacking", [False, True])
def test_two_that_cannot_be_compared(mirrors: Mirrors, account: Credentials, lacking: bool) -> None:
    """Two large objects are cut in different ways: they are named, with the status 1. So is a third
    place that lacks the object.
    """
    c = _three(mirrors, account, {})
    content = os.urandom(40)
    if not lacking:
        c = mirrors.a
        mirrors.configure()
    for objects, size in ((mirrors.a, 10), (mirrors.b, 20)):
        objects.make(f"{objects.container}_segments")
        names = []
        for start in range(0, len(content), size):
            names.append(f"theirs/{start:08}")
            objects.put_segment(names[-1], content[start : start + size])
        objects.put_manifest(PATH, names)
    summary = mirrors.run("sync", status=1)
    (reason,) = summary["failed"]
    assert reason.startswith("a and b: cut in different ways")
    assert f"Failed: {PATH}: {reason}\n" in summary["told"]
    assert (PATH in c.names()) == (not lacking)
    if lacking:
        assert summary["members"]["c"]["lacking"] == 1
        assert f"Not in c: {PATH}: cut in different ways" in summary["told"]


async def test_a_place_that_delivers_damaged_bytes(
    mirrors: Mirrors, swift: Swift, account: Credentials, proxy: FaultProxy
) -> None:
    """The object comes from another place that has the same. Status 0; the damage is named."""
    mirrors.a[PATH] = mirrors.b[PATH] = content = os.urandom(200_000)
    proxy.add(FlipBit(in_response(100_000), times=None, match=("GET", f"{PATH}$")))
    c = Objects(account)
    url = proxy.url_for(swift.account_url(account.project_id))
    options = mirrors.options({"storage_url": url}, {})
    options["mirrors"].append({"name": "c", "cloud": "matrix", "container": c.container})
    mirrors.script.configure(mirrors.store, **options)
    summary = await deferToThread(mirrors.run, "sync")
    assert summary["copied"] == {"a": 0, "b": 0, "c": 1}
    assert f"Copied from b: {PATH}: a: GET " in summary["told"]
    assert c[PATH] == content


async def test_no_place_delivers_an_object(
    mirrors: Mirrors, swift: Swift, account: Credentials, proxy: FaultProxy
) -> None:
    """It is named once, with what each place did."""
    mirrors.a[PATH] = mirrors.b[PATH] = os.urandom(200_000)
    proxy.add(FlipBit(in_response(100_000), times=None, match=("GET", f"{PATH}$")))
    url = proxy.url_for(swift.account_url(account.project_id))
    c = Objects(account)
    options = mirrors.options({"storage_url": url}, {"storage_url": url})
    options["mirrors"].append({"name": "c", "cloud": "matrix", "container": c.container})
    mirrors.script.configure(mirrors.store, **options)
    summary = await deferToThread(mirrors.run, "sync", status=1)
    (reason,) = summary["failed"]
    assert reason.startswith("a: ")
    assert "; b: " in reason
    assert summary["told"].count("Failed: ") == 1
    assert c.names() == set()


async def test_a_target_that_takes_nothing(
    mirrors: Mirrors, swift: Swift, account: Credentials, proxy: FaultProxy
) -> None:
    """It counts as down, whatever else needs no copy, and whatever it gives."""
    content = os.urandom(10)
    for number in range(60):
        name = f"local_content/aa/bb/large{number:03}"
        for objects in (mirrors.a, mirrors.b):
            if not number:
                objects.make(f"{objects.container}_segments")
            objects.put_segment(f"theirs/{number}", content)
            objects.put_manifest(name, [f"theirs/{number}"])
        mirrors.a[f"local_content/aa/bb/small{number:03}"] = b"content"
        mirrors.a[f"local_content/aa/bb/large{number:03}-small"] = b"content"
        mirrors.b[f"local_content/aa/bb/large{number:03}-there"] = b"content"
    proxy.add(Answer(503, times=None, match=("PUT", "/local_content/")))
    url = proxy.url_for(swift.account_url(account.project_id))
    mirrors.configure(storage_url=url, threadpool_size=2, of_a={"threadpool_size": 2})
    summary = await deferToThread(mirrors.run, "sync", status=3)
    assert sum(summary["failed"].values()) < 30
    assert summary["error"].startswith("b: PUT ")
