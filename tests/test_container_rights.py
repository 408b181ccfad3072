"""The way of manual/rights.rst to let Synapse use two containers of a project, and no others."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
from twisted.internet import reactor
from twisted.protocols.ftp import FileConsumer

from swift_provider.client import FileSource, Place
from swift_provider.config import MIB, parse_settings
from swift_provider.errors import AccessDeniedError
from tests.servers import process
from tests.servers.keystone import REGION, Credentials, Keystone
from tests.servers.swift import Swift
from tests.test_readme import PAGES, blocks


def run(commands: str, account: Credentials, **variables: str) -> str:
    """What shell commands print, with ``swift`` signed in as a user."""
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euc", commands],
        env=process.child_environment({**account.environment(), **variables, "PATH": path}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


async def test_a_user_of_another_project(
    swift: Swift, keystone: Keystone, account: Credentials, tmp_path: Path
) -> None:
    """The commands let it store, list, read and delete in the two containers alone."""
    (commands,) = (text for text in blocks(PAGES["rights.rst"], ".*::") if "swift post -r" in text)
    guest = keystone.create_account("guests", "guest", "only-on-loopback")
    printed = run(
        commands.replace("matrix-media", "lent"),
        account,
        PROJECT_ID=guest.project_id,
        USER_ID=guest.user_id,
    )
    credential_id, secret = keystone.create_application_credential(guest, "media")
    options = {
        "container": "lent",
        "auth_type": "v3applicationcredential",
        "auth": {
            "auth_url": guest.auth_url,
            "application_credential_id": credential_id,
            "application_credential_secret": secret,
        },
        "region_name": REGION,
        "segment_size": "1M",
        "storage_url": printed.strip().removeprefix("export OS_STORAGE_URL="),
    }
    place = Place.from_settings(reactor, parse_settings(options))
    try:
        await place.check()
        for size in (20, MIB + 20):
            await round_trip(place, tmp_path, size)
    finally:
        await place.close()
    run("swift post not-lent", account)
    place = Place.from_settings(reactor, parse_settings({**options, "container": "not-lent"}))
    try:
        with pytest.raises(AccessDeniedError):
            await place.check()
    finally:
        await place.close()


async def round_trip(place: Place, folder: Path, size: int) -> None:
    """Store, look, list, read and delete one file."""
    file, copy = folder / f"{size} bytes", folder / f"{size} bytes again"
    file.write_bytes(os.urandom(size))
    with FileSource.open(str(file)) as source:
        await place.put("file", source)
    info = await place.head("file")
    assert (info.size, info.static_large) == (size, size > MIB)
    assert await listed(place) == ["file"]
    download = await place.get("file")
    with copy.open("wb") as opened:
        await download.deliver(FileConsumer(opened))
    assert copy.read_bytes() == file.read_bytes()
    assert await place.delete("file")
    assert await listed(place) == []
    if size > MIB:
        assert await listed(place.segments) == []


async def listed(place: Place) -> list[str]:
    """The names of the objects."""
    return [row.name async for page in place.list("") for row in page]
