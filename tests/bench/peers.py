"""The peers: installed at their first use, each into an environment of its own.

From PyPI with ``pip``; from Debian by unpacking the package, so that nothing
on the machine changes and nobody has to be root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import ROOT

PEERS = ROOT / ".bench" / "peers"


class MissingPeerError(Exception):
    """A peer cannot be had; the message is the command that would get it."""


@dataclass(frozen=True)
class PythonPeer:
    """Packages of PyPI in one environment.

    :param packages: installed with all they need.
    :param bare: installed without what they need, after the others.
    """

    name: str
    packages: tuple[str, ...]
    bare: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return PEERS / self.name

    @property
    def python(self) -> str:
        """Its interpreter.

        :raises MissingPeerError: if it cannot be installed.
        """
        marker = self.folder / ".complete"
        wanted = " ".join([*self.packages, *self.bare, sys.version])
        if not marker.exists() or marker.read_text() != wanted:
            self._install()
            marker.write_text(wanted)
        return str(self.folder / "bin" / "python")

    def script(self, name: str) -> list[str]:
        """The command of a script that it brings."""
        return [self.python, str(self.folder / "bin" / name)]

    def version(self, package: str) -> str:
        """Of one of its packages."""
        code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
        return _output([self.python, "-c", code, package]).strip()

    def _install(self) -> None:
        print(f"Installing {', '.join(self.packages + self.bare)}", file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)
        pip = [str(self.folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        commands = [[sys.executable, "-m", "venv", str(self.folder)], [*pip, *self.packages]]
        if self.bare:
            commands.append([*pip, "--no-deps", *self.bare])
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise MissingPeerError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")


#: python-swiftclient, with its command ``swift``.
SWIFTCLIENT = PythonPeer(
    "swiftclient", ("python-swiftclient", "keystoneauth1", "python-keystoneclient")
)
OPENSTACKSDK = PythonPeer("openstacksdk", ("openstacksdk",))
REQUESTS = PythonPeer("requests", ("requests",))
#: The S3 sibling in an environment with Synapse. Its own psycopg2 would need a compiler.
S3 = PythonPeer(
    "s3",
    ("boto3", "botocore", "humanize>=4,<5", "psycopg2-binary", "PyYAML", "tqdm", "matrix-synapse"),
    ("synapse-s3-storage-provider",),
)


def debian(name: str, binary: str) -> str:
    """A program: the system's, or that of Debian's package, unpacked.

    :param binary: its place in the package, as ``usr/bin/rclone``.
    :raises MissingPeerError: if there is neither.
    """
    found = shutil.which(Path(binary).name)
    if found:
        return found
    folder = PEERS / "debian"
    path = folder / binary
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _download(name, folder)
        except (OSError, subprocess.CalledProcessError):
            raise MissingPeerError(f"apt-get update && apt-get install {name}") from None
        for package in folder.glob(f"{name}_*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    return str(path)


def _download(name: str, folder: Path) -> None:
    download = ["apt-get", "download", "--quiet", name]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run(download, cwd=folder, check=False, **quiet).returncode == 0:
        return
    if os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "--quiet"], check=True, **quiet)
    subprocess.run(download, cwd=folder, check=True, **quiet)


def rclone() -> str:
    """:raises MissingPeerError: as :func:`debian`."""
    return debian("rclone", "usr/bin/rclone")


def nginx() -> str:
    """:raises MissingPeerError: as :func:`debian`."""
    return debian("nginx", "usr/sbin/nginx")


def curl() -> str:
    """:raises MissingPeerError: as :func:`debian`."""
    return debian("curl", "usr/bin/curl")


def program_version(path: str, flag: str) -> str:
    """The first number that a program says about itself."""
    found = re.search(r"\d+(\.\d+)+", _output([path, flag]))
    return found[0] if found else "unknown"


def _output(command: list[str]) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def known() -> dict[str, str]:
    """Versions of the peers that are installed."""
    found = {}
    for peer in (SWIFTCLIENT, OPENSTACKSDK, REQUESTS, S3):
        if (peer.folder / ".complete").exists():
            for package in (*peer.packages[:1], *peer.bare):
                found[re.split(r"[<>=]", package)[0]] = peer.version(package)
    for name, binary, flag in (
        ("rclone", "usr/bin/rclone", "version"),
        ("nginx", "usr/sbin/nginx", "-v"),
        ("curl", "usr/bin/curl", "--version"),
    ):
        path = shutil.which(name) or PEERS / "debian" / binary
        if Path(path).exists():
            found[name] = program_version(str(path), flag)
    return found
