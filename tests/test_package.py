"""The package as it is imported: quick, and with nothing that is not needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import swift_provider
import swift_storage_provider

SCRIPT = Path(__file__).parent.parent / "scripts" / "swift_media_upload"


def modules_after(*command: object) -> set[str]:
    """The packages that a fresh interpreter has loaded after some code, or after a script."""
    code = "import sys, json; sys.stdout = sys.stderr\n{}\n"
    code += "json.dump(sorted(sys.modules), sys.__stdout__)"
    done = subprocess.run(
        [sys.executable, "-c", code.format(command[0]), *map(str, command[1:])],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


HEAVY = {"synapse", "twisted", "treq", "psycopg2", "keystoneauth1", "requests"}


@pytest.mark.parametrize("module", ["swift_provider", "swift_storage_provider"])
def test_importing_a_module_loads_nothing_heavy(module: str) -> None:
    """Both names can be imported without Synapse, Twisted or a driver."""
    assert not modules_after(f"import {module}") & HEAVY


def test_the_help_loads_nothing_heavy() -> None:
    """The script's --help needs no reactor, no driver and no network library."""
    code = f"""
import runpy, sys
sys.argv = ["swift_media_upload", "--help"]
try:
    runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
except SystemExit as end:
    assert end.code in (0, None), end.code
else:
    raise AssertionError
"""
    assert not modules_after(code) & HEAVY


def test_both_names_give_the_same_module() -> None:
    """A configuration may name either."""
    backend = swift_provider.SwiftStorageProviderBackend
    assert swift_storage_provider.SwiftStorageProviderBackend is backend
