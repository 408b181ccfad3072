"""Where media are in two Swifts: each with its own sign-in, behind a gate, and a homeserver."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import process
from tests.servers.gate import Gate, running_gate
from tests.servers.keystone import running_keystone
from tests.servers.postgres import running_postgres
from tests.servers.swift import Swift, running_swift
from tests.servers.swift_account import Account
from tests.soak.home import Home
from tests.soak.place import OPTIONS, PASSWORD, REGION, TOKEN_SECONDS, running_home

#: Small files would come from the module's memory, and no member would be asked.
_ENTRY = {"memory_cache": 0}


@dataclass(eq=False)
class Member:
    """One of the two.

    :ivar account: past the gate.
    :ivar options: the module's, by way of the gate.
    """

    name: str
    swift: Swift
    gate: Gate
    account: Account
    options: dict[str, Any]

    def entry(self, *mirrors: Member) -> dict[str, Any]:
        """The module's configuration with this as the first place, and with these mirrors."""
        entry = {**self.options, **_ENTRY}
        if mirrors:
            entry["mirrors"] = [mirror.options for mirror in mirrors]
        return entry


@dataclass
class Pair:
    """Everything that runs.

    :ivar first: signs in by Keystone.
    :ivar second: signs in by TempAuth.
    """

    first: Member
    second: Member
    home: Home

    @property
    def members(self) -> tuple[Member, Member]:
        """Both."""
        return self.first, self.second

    def other(self, member: Member) -> Member:
        """The one that is not this one."""
        return self.second if member is self.first else self.first


@contextlib.contextmanager
def pair_running(*, mirrored: bool, store_synchronous: bool) -> Iterator[Pair]:
    """Start all servers; at the end of the block they and their files are gone. Blocking.

    :param mirrored: whether the homeserver uses both, or the first alone.
    :raises ServiceError: if one cannot start.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swift-soak-")))
        keystone = stack.enter_context(
            running_keystone(folder / "keystone", token_seconds=TOKEN_SECONDS)
        )
        user = keystone.create_account("matrix", "synapse", PASSWORD)
        swift = stack.enter_context(running_swift(folder / "first", keystone))
        gate = stack.enter_context(running_gate(folder, "first", swift.url))
        by_gate = gate.url_for(f"{swift.url}/v1/AUTH_%(project_id)s")
        keystone.create_endpoint("object-store", by_gate, REGION)
        clouds = user.write_clouds_yaml(folder / "clouds.yaml", region=REGION)
        account = Account(lambda: keystone.token(user), swift.account_url(user.project_id))
        options = {"name": "first", "cloud": "matrix", **OPTIONS}
        first = Member("first", swift, gate, account, options)
        swift = stack.enter_context(
            running_swift(folder / "second", tempauth=("mirror:keeper", PASSWORD))
        )
        gate = stack.enter_context(running_gate(folder, "second", swift.url))
        sign_in = swift.tempauth_options(gate.url_for(swift.url))
        options = {"name": "second", **sign_in, **OPTIONS}
        second = Member("second", swift, gate, swift.tempauth_account, options)
        home = stack.enter_context(
            running_home(
                "soak.localhost",
                folder,
                stack.enter_context(running_postgres()),
                {"OS_CLIENT_CONFIG_FILE": str(clouds), "PYTHONPATH": str(process.ROOT)},
                first.entry(second) if mirrored else first.entry(),
                store_synchronous=store_synchronous,
            )
        )
        yield Pair(first, second, home)
