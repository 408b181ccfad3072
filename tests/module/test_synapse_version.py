"""A Synapse that is too old is refused."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

from swift_provider.module.synapse_version import OLDEST_SYNAPSE, check_synapse_version
from tests.module.conftest import MODULE
from tests.module.homeservers import screen_of
from tests.servers import process


def test_old_synapse(tmp_path: Path) -> None:
    """A Synapse that is too old is refused, with both versions."""
    folder = tmp_path / "matrix_synapse-1.120.0.dist-info"
    folder.mkdir()
    facts = distribution("matrix-synapse").read_text("METADATA")
    assert facts is not None
    older = re.sub(r"(?m)^Version: .*$", "Version: 1.120.0", facts, count=1)
    (folder / "METADATA").write_text(older)
    screen = screen_of(
        tmp_path / "synapse",
        {"module": MODULE, "config": {"container": "media"}},
        PYTHONPATH=f"{tmp_path}:{process.ROOT}",
    )
    assert "needs Synapse 1.140 or newer, and this is Synapse 1.120.0" in screen
    assert "Traceback" not in screen


def test_versions_that_pass() -> None:
    """The oldest version, newer ones, and what cannot be read are let through."""
    for version in (".".join(map(str, OLDEST_SYNAPSE)), "1.163.2", "2.0rc1", "local"):
        check_synapse_version(version)
