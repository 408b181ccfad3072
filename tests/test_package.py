"""The package as it is built, installed and imported."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import swift_provider
import swift_storage_provider
from tests.servers import process
from tests.servers.keystone import REGION, Credentials
from tests.servers.swift import Swift
from tests.servers.synapse import Synapse

MANUAL = process.ROOT / "swift_provider" / "manual"
SCRIPT = process.ROOT / "scripts" / "swift_media_upload"
EPOCH = 1_600_000_000
_SETUP = "import sys; sys.argv = ['setup.py', '-q', 'build']; runpy.run_path('setup.py')"


def run(*command: object, **environment: str) -> str:
    """Run a command outside the checkout; its output, errors included.

    :raises AssertionError: if it fails.
    """
    # Only the installed package counts, and setuptools warns if it may not compile to bytecode.
    kept = {
        name: value
        for name, value in process.child_environment().items()
        if name not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd="/",
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@dataclass(frozen=True)
class Built:
    """:ivar sdist: the archive.
    :ivar output: what the build said.
    """

    sdist: Path
    wheel: Path
    output: str


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, float], Built]:
    """Builds sdist and wheel of a copy of the checkout, with these modes and times."""

    def make(mask: int, modified: float) -> Built:
        folder = tmp_path_factory.mktemp("build")
        source = folder / "source"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
        shutil.copytree(process.ROOT, source, ignore=ignored)
        for path in [source, *source.rglob("*")]:
            path.chmod(path.stat().st_mode & ~mask)
            os.utime(path, (modified, modified))
        code = "import os, runpy, sys; os.umask(int(sys.argv.pop(1)))\n"
        code += "runpy.run_module('build', run_name='__main__', alter_sys=True)"
        output = run(
            *(sys.executable, "-W", "error", "-c", code, mask, "--outdir", folder / "dist", source),
            SOURCE_DATE_EPOCH=str(EPOCH),
        )
        (sdist,) = (folder / "dist").glob("*.tar.gz")
        (wheel,) = (folder / "dist").glob("*.whl")
        return Built(sdist, wheel, output)

    return make


@pytest.fixture(scope="session")
def built(build: Callable[[int, float], Built]) -> Built:
    """What a release would be."""
    return build(0o022, time.time())


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with Synapse, the wheel, and what the two require."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "matrix-synapse", built.wheel)
    return folder / "bin"


def test_it_builds_without_a_warning(built: Built) -> None:
    """Neither Python nor setuptools has to warn, and the index would take both files."""
    assert "warn" not in built.output.lower()
    shown = run(sys.executable, "-m", "twine", "check", "--strict", built.sdist, built.wheel)
    assert shown.count("PASSED") == 2


def test_the_manual_is_in_it(built: Built) -> None:
    """Both archives have each page."""
    pages = {f"swift_provider/manual/{page.name}" for page in MANUAL.glob("*.rst")}
    assert pages <= set(zipfile.ZipFile(built.wheel).namelist())
    with tarfile.open(built.sdist) as archive:
        assert pages <= {name.partition("/")[2] for name in archive.getnames()}


def test_builds_are_equal(built: Built, build: Callable[[int, float], Built]) -> None:
    """The same files give the same bytes, at another time, in another folder, for another user."""
    again = build(0o077, EPOCH - 86400)
    for one, other in ((built.sdist, again.sdist), (built.wheel, again.wheel)):
        hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, other)}
        assert len(hashes) == 1, one.name


def test_an_earlier_build_is_not_taken(tmp_path: Path) -> None:
    """It may be another Python's: pip of Debian 12 installs from that folder."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(process.ROOT, source, ignore=ignored)
    command = [sys.executable, "-c", f"import os, runpy; os.chdir({str(source)!r}); {_SETUP}"]
    run(*command)
    (script,) = source.glob("build/scripts-*/swift_media_upload")
    module = source / "build" / "lib" / "swift_storage_provider.py"
    whole = {path: path.read_text() for path in (script, module)}
    assert whole[script].startswith(f"#!{sys.executable}")
    for path in whole:
        path.write_text("#!/another/python\n")
    run(*command)
    assert {path: path.read_text() for path in whole} == whole


def test_the_wheel_brings_all_it_needs(
    installed: Path,
    swift: Swift,
    account: Credentials,
    synapse: Callable[..., Synapse],
) -> None:
    """Beside Synapse alone, the module stores a file in Swift, and brings it back."""
    where = run(installed / "python", "-c", "import swift_provider as s; print(s.__file__)")
    assert Path(where).is_relative_to(installed.parent)
    assert run(installed / "swift_media_upload", "--help").startswith("usage: swift_media_upload")
    config = {
        "container": "from-the-wheel",
        "create_container": True,
        "auth_type": "password",
        "auth": account.auth(),
        "region_name": REGION,
    }
    homeserver = synapse(
        media_storage_providers=[
            {
                "module": "swift_provider.SwiftStorageProviderBackend",
                "store_local": True,
                "store_synchronous": True,
                "config": config,
            }
        ],
        python=str(installed / "python"),
        env={"PYTHONPATH": ""},
    )
    user = homeserver.client(homeserver.register("user"))
    media = user.upload(b"from the wheel")
    shutil.rmtree(homeserver.media_store)
    assert user.download(media) == b"from the wheel"


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
