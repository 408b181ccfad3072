"""What README.rst and the manual show is what works."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from textwrap import dedent

import pytest
import swiftclient
import yaml
from keystoneauth1.identity import v3
from keystoneauth1.session import Session

import swift_provider.client
from swift_provider.config import (
    LocalDiskSettings,
    RedirectSettings,
    Settings,
    parse_settings,
)
from swift_provider.offload.command import exit_status
from swift_provider.offload.command.arguments import parser
from tests.servers import process
from tests.servers.keystone import REGION, Credentials
from tests.servers.swift import Swift

PACKAGE = process.ROOT / "swift_provider"
README = process.ROOT / "README.rst"
MANUAL = PACKAGE / "manual"
PAGES = {path.name: path.read_text() for path in (README, *sorted(MANUAL.glob("*.rst")))}

MOST_LINES = 300


def blocks(text: str, opening: str) -> list[str]:
    """The indented blocks after a line that matches, without their indentation."""
    pattern = rf"^{opening}\n(?:   :.*\n)*\n((?:   .*\n|\n)+)"
    return [dedent(block) for block in re.findall(pattern, text, re.MULTILINE)]


def section(page: str, title: str) -> str:
    """The text below a title."""
    _, found, rest = PAGES[page].partition(f"\n{title}\n===")
    assert found, title
    return re.split(r"\n.+\n=+\n", rest)[0]


def first_cells(text: str) -> list[str]:
    """The first column of all tables."""
    cells = []
    for border, rows in re.findall(r"^(==+) [ =]+\n((?:.+\n)+)", text, re.MULTILINE):
        column = (row[: len(border)].strip() for row in rows.splitlines())
        cells += [cell for cell in column if cell and set(cell) != {"="}]
    return cells


def names(text: str) -> set[str]:
    """The names in the first column of all tables."""
    return {name for cell in first_cells(text) for name in re.findall(r"``(\w+)``", cell)}


def test_the_example_of_the_client_runs(
    swift: Swift, account: Credentials, clouds_yaml: Callable[..., Path], tmp_path: Path
) -> None:
    """The Twisted program in the client's docstring stores a file and gets it back."""
    swiftclient.Connection(
        session=Session(v3.Password(**account.auth())), os_options={"region_name": REGION}
    ).put_container("notes")
    program = tmp_path / "example.py"
    (example,) = blocks(swift_provider.client.__doc__ or "", ".*::")
    program.write_text(example)
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


def test_the_readme_is_short() -> None:
    """What only some operators need is in the manual."""
    assert len(PAGES["README.rst"].splitlines()) <= MOST_LINES


def test_every_option_is_in_the_table() -> None:
    """The table of options names each option, and no other."""
    named = names(section("README.rst", "All options"))
    assert named == {option.name for option in fields(Settings)}


def test_every_option_of_redirect_is_named() -> None:
    """Its table names each option, ``key`` beside ``key_path``."""
    named = names(PAGES["redirect.rst"]) | {"key"}
    assert named == {option.name for option in fields(RedirectSettings)}


def test_every_option_of_local_disk_is_shown() -> None:
    """The example has each option."""
    (block,) = blocks(PAGES["local_disk.rst"], r"\.\. code-block:: yaml")
    shown = yaml.safe_load(block)["config"]["local_disk"]
    assert set(shown) == {option.name for option in fields(LocalDiskSettings)}


CONFIGURATIONS = [
    pytest.param(block, id=f"{page}-{number}")
    for page, text in PAGES.items()
    for number, block in enumerate(blocks(text, r"\.\. code-block:: yaml"))
]


@pytest.mark.parametrize("block", CONFIGURATIONS)
def test_the_configurations_are_right(block: str) -> None:
    """Each configuration shown is valid YAML, and its options pass the module's checks."""
    loaded = yaml.safe_load(block)
    if "groups" in loaded:
        return  # alerts, see test_alerts.py
    if "media_storage_providers" in loaded:
        (entry,) = loaded["media_storage_providers"]
        parse_settings(entry["config"])
    elif "config" in loaded:
        parse_settings(loaded["config"])
    else:
        assert set(loaded) == {"clouds"}


def test_every_command_is_named() -> None:
    """The table of commands has each command that ``--help`` shows."""
    commands = next(one.choices for one in parser()._actions if one.dest == "command")
    named = {cell.strip("`").split()[0] for cell in first_cells(section("script.rst", "Commands"))}
    assert set(commands or ()) <= named


def test_every_exit_status_is_named() -> None:
    """The table of exit statuses has each, and no other."""
    named = {int(cell) for cell in first_cells(section("script.rst", "Exit status"))}
    assert named == {value for value in vars(exit_status).values() if isinstance(value, int)}


def test_every_link_leads_to_a_file() -> None:
    """Links between the pages are relative."""
    for page, text in PAGES.items():
        folder = README.parent if page == README.name else MANUAL
        links = re.findall(r"<([^>]+)>`_|^\.\. _[^:]+: (\S+)$", text, re.MULTILINE)
        for link in ("".join(pair) for pair in links):
            assert link.startswith("https://") or (folder / link).is_file(), (page, link)


#: What a message under "Troubleshooting" has in place of a ``{}`` or ``%s``.
FILLED_IN = r"\b(?:[A-Z]{2,}|N|store|fetch|deliver)\b"


def _texts() -> Iterator[str]:
    """The messages in the source: a ``{}`` or ``%s`` is what is filled in."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{}"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%(\.0f|[sd])", "{}", node.value)


def test_the_messages_are_those_of_the_program() -> None:
    """Each message under "Troubleshooting" is in the source; only Python's own is not."""
    texts = "\n".join(_texts())
    lines = re.findall(r"^``.*``$", section("README.rst", "Troubleshooting"), re.MULTILINE)
    messages = {message for line in lines for message in re.findall(r"``(.+?)``", line)}
    assert len(messages) >= 10
    for message in messages - {"No module named 'swift_provider'"}:
        pattern = ".*?".join(map(re.escape, re.split(FILLED_IN, message)))
        assert re.search(pattern, texts), message
