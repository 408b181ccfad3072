"""Runs of ``check``, and what they printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.offload.checks.front import Front, running_front
from tests.offload.conftest import Objects, Script
from tests.offload.synapse_store import SynapseStore
from tests.servers.keystone import Credentials
from tests.servers.swift import Swift

MODULE = "swift_provider.SwiftStorageProviderBackend"

#: Runs ``check`` without Synapse, which takes seconds to import.
_QUICK = """
import sys
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.command import check_command
from swift_provider.offload.command.cli import main
check_command.check_synapse = Findings
sys.exit(main(["check", *sys.argv[1:]]))
"""


class Checked:
    """One homeserver's configuration, which a test breaks.

    :ivar config: the module's options.
    :ivar entry: what stands beside them in the entry.
    :ivar last: the last line of the last run, which counts the others.
    :ivar homeserver: further keys of ``homeserver.yaml``.
    """

    def __init__(
        self,
        script: Script,
        store: SynapseStore,
        objects: Objects,
        clouds_yaml: Callable[..., Path],
        account: Credentials,
    ) -> None:
        self.script = script
        self.store = store
        self.objects = objects
        self.account = account
        self.clouds_yaml = clouds_yaml
        self.config: dict[str, Any] = {"cloud": "matrix", "container": objects.container}
        self.last = ""
        self.entry: dict[str, Any] = {
            "store_local": True,
            "store_remote": True,
            "store_synchronous": False,
        }
        self.homeserver: dict[str, Any] = {
            "server_name": "here.example",
            "database": store.yaml_section,
            "media_store_path": str(store.base),
        }

    def run(self, status: int, *arguments: str | Path, whole: bool = False) -> list[str]:
        """Run ``check``.

        :param status: the exit status that it must have.
        :param whole: with the check of Synapse.
        :returns: its lines.
        """
        self.write()
        began = time.monotonic()
        command = [*self.script.command()[:1], "-c", _QUICK]
        if whole:
            command = self.script.command("check")
        ended = self.script.run([*command, *map(str, arguments)])
        assert time.monotonic() - began < 25
        shown = ended.stdout + ended.stderr
        assert ended.returncode == status, shown
        assert self.account.password not in shown
        assert ended.stderr == ""
        lines = ended.stdout.splitlines()
        if "-q" not in arguments:
            self.last = lines.pop()
        return lines

    def write(self, *others: dict[str, Any]) -> None:
        """Write ``homeserver.yaml``.

        :param others: the options of further entries.
        """
        entries = [
            {"module": MODULE, **self.entry, "config": config} for config in (self.config, *others)
        ]
        content = {**self.homeserver, "media_storage_providers": entries}
        (self.script.folder / "homeserver.yaml").write_text(yaml.safe_dump(content))

    def wrong(self, status: int, *arguments: str | Path) -> str:
        """Run ``check``, which must find one thing wrong.

        :returns: its line.
        """
        lines = self.run(status, *arguments)
        found = [line for line in lines if line.startswith("wrong ")]
        assert len(found) == 1, lines
        return found[0]

    def subjects(self, lines: list[str]) -> list[str]:
        """What lines are about."""
        return [line[8:].partition(": ")[0] for line in lines]


@pytest.fixture
def checked(
    offload: Script,
    store: SynapseStore,
    objects: Objects,
    clouds_yaml: Callable[..., Path],
    account: Credentials,
) -> Checked:
    """A configuration that is right."""
    return Checked(offload, store, objects, clouds_yaml, account)


@pytest.fixture
def front(swift: Swift, checked: Checked) -> Iterator[Front]:
    """Stands before Swift, and ``checked`` is configured for it."""
    with running_front(swift.url) as started:
        checked.config["storage_url"] = f"{started.url}/v1/AUTH_{checked.account.project_id}"
        yield started
