"""What README.rst shows is what works."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from textwrap import dedent

import pytest
import swiftclient
import yaml
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from swift_provider.config import Settings, parse_settings
from tests.servers.keystone import REGION, Credentials
from tests.servers.swift import Swift

README = (Path(__file__).parent.parent / "README.rst").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks in one language, without their indentation."""
    pattern = rf"^\.\. code-block:: {language}\n(?:   :.*\n)*\n((?:   .*\n|\n)+)"
    return [dedent(block) for block in re.findall(pattern, README, re.MULTILINE)]


def test_the_example_of_the_client_runs(
    swift: Swift, account: Credentials, clouds_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    """The Twisted program in the README stores a file and gets it back."""
    swiftclient.Connection(
        session=Session(v3.Password(**account.auth())), os_options={"region_name": REGION}
    ).put_container("notes")
    program = tmp_path / "example.py"
    program.write_text(blocks("python")[0])
    note = tmp_path / "note"
    note.write_text("A note of one line.\n")
    shown = subprocess.run(
        [sys.executable, program, note],
        env={"OS_CLIENT_CONFIG_FILE": str(clouds_yaml()), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert shown.stderr == ""
    assert shown.stdout.startswith("20 bytes, MD5 ")
    assert (tmp_path / "note.copy").read_bytes() == note.read_bytes()


def test_every_option_is_in_the_table() -> None:
    """The table of options names each option, and no other."""
    table = README.partition("All options\n===")[2].partition("\nCredentials\n")[0]
    first_cells = re.findall(r"^(``.*?)  ", table, re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"``(\w+)``", cell)}
    assert named == {option.name for option in fields(Settings)}


@pytest.mark.parametrize("block", blocks("yaml"))
def test_the_configurations_are_right(block: str) -> None:
    """Each configuration shown is valid YAML, and its options pass the module's checks."""
    loaded = yaml.safe_load(block)
    if "media_storage_providers" in loaded:
        (entry,) = loaded["media_storage_providers"]
        parse_settings(entry["config"])
    elif "config" in loaded:
        parse_settings(loaded["config"])
    else:
        assert set(loaded) == {"clouds"}
