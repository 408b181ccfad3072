"""Whether Synapse can load the module."""

from __future__ import annotations

import pytest

from swift_provider.offload.checks import synapse
from swift_provider.offload.checks.findings import Findings
from swift_provider.offload.checks.steps import ALL_STEPS_SECONDS


def lines(found: Findings) -> list[str]:
    return [str(one) for one in found.found]


def test_a_module_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last line of the error is shown."""
    monkeypatch.setattr(synapse, "_IMPORT", "raise ImportError('no treq')")
    assert lines(synapse.check_synapse()) == [
        "wrong   Synapse: the module cannot be imported (ImportError: no treq): install it into "
        "Synapse's environment again"
    ]


def test_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Synapse nothing can be told, which is no mistake."""
    monkeypatch.setattr(synapse, "find_spec", lambda name: None)
    (line,) = lines(synapse.check_synapse())
    assert line.startswith("note    Synapse: /")
    assert "has no Synapse, so this run cannot tell whether the module loads: run check" in line


def test_slow_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import has a time limit, which is over before that of all checks."""
    assert synapse._SECONDS < ALL_STEPS_SECONDS
    monkeypatch.setattr(synapse, "_IMPORT", "import time; time.sleep(60)")
    monkeypatch.setattr(synapse, "_SECONDS", 0.2)
    (line,) = lines(synapse.check_synapse())
    assert line == "note    Synapse: loading the module takes more than 0.2 s here"
