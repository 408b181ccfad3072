"""Who may import what: downwards only, without a circle, and each library in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "swift_provider"

#: From the bottom to the top. A module imports from its own floor or from a lower one.
FLOORS = (
    ("swift_provider._version", "swift_provider.errors", "swift_provider.sizes"),
    ("swift_provider.config",),
    ("swift_provider.keeper",),
    ("swift_provider.client",),
    ("swift_provider.module", "swift_provider.offload"),
    ("swift_provider",),
)
WINGS = ("swift_provider.client", "swift_provider.module", "swift_provider.offload")
#: Which folder may import a library.
LIBRARIES = {
    "treq": "swift_provider.client.http",
    "OpenSSL": "swift_provider.client.http",
    "keystoneauth1": "swift_provider.client.identity",
    "synapse": "swift_provider.module",
    "psycopg2": "swift_provider.offload",
    "tqdm": "swift_provider.offload",
}


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that a module's own code imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            # "from package import module" imports the module, not the package.
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return frozenset(found)


def own_imports(module: str) -> Iterator[str]:
    return (imported for imported in imports(module) if imported.partition(".")[0] == PACKAGE)


def within(module: str, folder: str) -> bool:
    return module == folder or module.startswith(f"{folder}.")


def floor_of(module: str) -> int:
    return next(
        number
        for number, folders in enumerate(FLOORS)
        if any(within(module, folder) for folder in folders)
    )


def test_all_modules_are_seen() -> None:
    """The other tests would pass over an empty list."""
    assert len(MODULES) > 60
    assert {"swift_provider", *WINGS} < MODULES.keys()
    assert "swift_provider.client.place" in imports("swift_provider.client")


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downwards(module: str) -> None:
    """No module imports from a higher floor, nor one wing from the other on its floor."""
    for imported in own_imports(module):
        assert floor_of(imported) <= floor_of(module), imported
        for wing, other in (WINGS[1:], WINGS[:0:-1]):
            assert not (within(module, wing) and within(imported, other)), imported


def test_there_is_no_circle() -> None:
    """Modules can be sorted so that each imports only earlier ones."""
    sorted_already: set[str] = set()
    left = dict.fromkeys(MODULES)
    while left:
        ready = [module for module in left if not set(own_imports(module)) & left.keys() - {module}]
        assert ready, f"a circle among {sorted(left)}"
        sorted_already.update(ready)
        for module in ready:
            del left[module]


@pytest.mark.parametrize("module", MODULES)
def test_a_wing_is_entered_by_its_door(module: str) -> None:
    """From outside, only what a wing's ``__init__`` names is imported."""
    for imported in own_imports(module):
        for wing in WINGS:
            if within(imported, wing) and not within(module, wing):
                assert imported == wing


@pytest.mark.parametrize(("library", "folder"), LIBRARIES.items())
def test_a_library_is_imported_in_one_place(library: str, folder: str) -> None:
    """Each foreign API is known to one folder only."""
    users = {
        module
        for module in MODULES
        if any(imported.partition(".")[0] == library for imported in imports(module))
    }
    assert users, "imported nowhere"
    assert all(within(user, folder) for user in users), users


@pytest.mark.parametrize("name", ["answers", "checksum", "manifest", "retry", "slots", "temp_url"])
def test_pure_modules_need_no_network_library(name: str) -> None:
    """What only computes can be understood, and tested, without treq and OpenSSL."""
    seen: set[str] = set()
    to_see = {f"swift_provider.client.{name}"}
    while to_see:
        module = to_see.pop()
        seen.add(module)
        to_see |= set(own_imports(module)) - seen
        libraries = {imported.partition(".")[0] for imported in imports(module)}
        assert not libraries & {"treq", "OpenSSL", "requests", "keystoneauth1"}, module
