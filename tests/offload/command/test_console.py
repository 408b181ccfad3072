"""Standard output and standard error: closed, full, without a reader, in another encoding."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from tests.offload.conftest import Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.stand_in import RgwStandIn
from tests.servers.stand_in_model import Container, Stored

LONG_AGO_SECONDS = 2 * 86_400
CONTAINER = "media"


@pytest_twisted.async_yield_fixture
async def gateway() -> AsyncIterator[RgwStandIn]:
    """A gateway with five hundred objects of media that Synapse forgot."""
    server = RgwStandIn(reactor)
    await server.start()
    container = server.containers[CONTAINER] = Container(server.now())
    stored_at = server.now() - LONG_AGO_SECONDS
    for number in range(500):
        stored = Stored(b"x", "9dd4e461268c8034f5c8564e155c67a6", stored_at)
        stored.metadata["x-object-meta-matrix-server"] = "here.example"
        container.objects[f"local_content/or/ph/an-{number:03}"] = stored
    yield server
    await server.stop()


@pytest.fixture
def pruning(script: Script, store: SynapseStore, gateway: RgwStandIn) -> Script:
    """The script, configured for the gateway."""
    store.add_local("known-one", None, accessed=int(time.time() * 1000))
    user, key = gateway.credentials
    auth = {"auth_url": gateway.auth_url, "username": user, "password": key}
    script.configure(store, container=CONTAINER, auth_type="v1password", auth=auth)
    return script


def shell(script: Script, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of bash, in which ``script`` stands for the script."""
    interpreter, program = script.command()
    prelude = f"set -o pipefail; script() {{ '{interpreter}' '{program}' \"$@\"; }}; "
    return script.run(["bash", "-c", prelude + command])


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(script: Script, store: SynapseStore, closed: str) -> None:
    """A command does its work without standard output, standard error, or both."""
    store.add_local("oldlocal", None)
    script.configure(store)
    ended = shell(script, f"script update {store.base} 2m {closed}")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
    assert (script.folder / "cache.db").read_bytes().startswith(b"SQLite format 3\0")
    assert script("write").stdout == ""


async def test_closed_streams_with_swift(pruning: Script, gateway: RgwStandIn) -> None:
    """The same for a command that talks to Swift."""
    command = "script prune --delete --max-share 1 >&- 2>&-"
    ended = await deferToThread(shell, pruning, command)
    assert ended.returncode == 0
    assert gateway.containers[CONTAINER].objects == {}


@pytest.mark.parametrize("options", ["", "--delete --max-share 1"])
async def test_a_reader_of_prune_that_has_enough(
    pruning: Script, gateway: RgwStandIn, options: str
) -> None:
    """``prune | head`` ends without complaint, and deletes no object that it did not name."""
    ended = await deferToThread(shell, pruning, f"script prune {options} | head -n 1")
    assert ended.returncode == 141
    assert ended.stderr.count("\n") == 1
    left = gateway.containers[CONTAINER].objects
    assert len(left) > 300 if options else len(left) == 500
    assert ended.stdout.strip() not in left or not options


async def test_a_full_disk_under_the_names(pruning: Script, gateway: RgwStandIn) -> None:
    """No space for the names: one message, status 3, and no object is deleted unnamed."""
    command = "script prune --delete --max-share 1 >/dev/full"
    ended = await deferToThread(shell, pruning, command)
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[1:] == [
        "swift_media_upload: cannot write to standard output: No space left on device"
    ]
    assert len(gateway.containers[CONTAINER].objects) == 500


async def test_a_full_disk_under_the_messages(pruning: Script, gateway: RgwStandIn) -> None:
    """No space for the messages on standard error: the work is done all the same."""
    command = "script --log-level debug prune --delete --max-share 1 2>/dev/full"
    ended = await deferToThread(shell, pruning, command)
    assert ended.returncode == 0
    assert gateway.containers[CONTAINER].objects == {}


@pytest.mark.parametrize("command", ["--help", "write", "write --json", "update-db 2m -q"])
def test_a_reader_that_is_gone(script: Script, store: SynapseStore, command: str) -> None:
    """Each command ends without complaint, as other tools do."""
    for number in range(3000):
        store.add_local(f"media-{number}", None)
    script.configure(store)
    script("update-db", "2m")
    ended = shell(script, f"script {command} | true")
    assert ended.stderr == ""
    assert ended.returncode in (0, 141)


def test_names_that_an_encoding_lacks(script: Script, tmp_path: Path) -> None:
    """Names are escaped, in full, whatever the encoding of the streams."""
    program = (
        "import sys; from swift_provider.offload.command.console import console\n"
        "from swift_provider.offload.media_names import shown\n"
        "with console():\n"
        "  name = '\\u0141\\u2026\\udcff' + 'a' * 300\n"
        "  for stream in (sys.stdout, sys.stderr):\n"
        "    print(shown(name), '\\u0142\\udcff', file=stream)"
    )
    script.environment["PYTHONIOENCODING"] = "latin-1"
    ended = script.run([script.command()[0], "-c", program])
    wanted = "\\u0141\\u2026\\udcff" + "a" * 300 + " \\u0142\\udcff\n"
    assert (ended.stdout, ended.stderr, ended.returncode) == (wanted, wanted, 0)


def test_a_folder_that_an_encoding_lacks(script: Script) -> None:
    """A path of the command line is told, escaped."""
    script.environment["PYTHONIOENCODING"] = "ascii"
    folder = os.fsdecode(b"/no\xc5\x82\xff")
    ended = script("check-deleted", folder)
    assert ended.returncode == 2
    assert "/no\\u0142\\udcff is not a folder" in ended.stderr
