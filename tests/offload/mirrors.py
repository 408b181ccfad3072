"""An entry with two places: two containers of a real Swift, of which one may be unreachable."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.offload.synapse_store import SynapseStore
from tests.servers import process

if TYPE_CHECKING:
    from tests.offload.conftest import Objects, Script

#: Runs the script with little patience, so that an outage takes no minutes.
_IMPATIENT = """
import sys
from swift_provider.client import Patience
from swift_provider.offload.jobs import members
from swift_provider.offload.command.cli import main
members.START_SECONDS = 5.0
Patience.SCRIPT = Patience(
    total_seconds=0.5, first_delay=0.05, longest_delay=0.1, operation_seconds=10.0
)
if sys.argv[1] == "later":
    from datetime import timedelta
    from swift_provider.offload.jobs import prune
    now = prune.now
    prune.now = lambda: now() + timedelta(days=2)
    del sys.argv[1]
sys.exit(main(sys.argv[1:]))
"""


class Mirrors:
    """The places ``a`` and ``b``, and the script that is configured for both.

    :ivar a: the objects of the entry itself.
    :ivar b: those of its mirror.
    """

    def __init__(self, script: Script, store: SynapseStore, a: Objects, b: Objects) -> None:
        self.script = script
        self.store = store
        self.a = a
        self.b = b
        self.configure()

    def options(self, of_a: dict[str, Any], of_b: dict[str, Any]) -> dict[str, Any]:
        """The module's ``config``, with more options of each place."""
        b = {"name": "b", "cloud": "matrix", "container": self.b.container, **of_b}
        a = {"name": "a", "cloud": "matrix", "container": self.a.container, **of_a}
        return {**a, "mirrors": [b]}

    def configure(self, *, of_a: dict[str, Any] | None = None, **of_b: Any) -> None:
        """Write ``homeserver.yaml``."""
        self.script.configure(self.store, **self.options(of_a or {}, of_b))

    def run(self, *arguments: str | Path, status: int = 0) -> dict[str, Any]:
        """Run the script with ``--json`` and little patience.

        :param status: the exit status that it must have.
        :returns: the summary, and as ``told`` what it wrote to stderr.
        """
        ended = self.plain(*arguments, "--json")
        assert ended.returncode == status, ended.stderr + ended.stdout
        summary: dict[str, Any] = json.loads(ended.stdout)
        summary["told"] = ended.stderr
        return summary

    def plain(self, *arguments: str | Path) -> Any:
        """The same, for people. If the first argument is ``later``, two days later."""
        command = [*self.script.command()[:1], "-c", _IMPATIENT, *map(str, arguments)]
        return self.script.run(command)


def closed_url() -> str:
    """The storage URL of a Swift that refuses connections."""
    return f"http://{process.LOOPBACK}:{process.free_port()}/v1/AUTH_x"


@contextlib.contextmanager
def silent_url() -> Iterator[str]:
    """The storage URL of a Swift that takes connections and never answers."""
    with socket.create_server((process.LOOPBACK, 0)) as listening:
        yield f"http://{process.LOOPBACK}:{listening.getsockname()[1]}/v1/AUTH_x"
