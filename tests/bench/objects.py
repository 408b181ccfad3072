"""Objects for the stub, and the candidates that put, get and look at them."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tests.bench import peers
from tests.bench.drivers.job import Job
from tests.bench.measure import CandidateError, Usage, run
from tests.bench.results import OURS
from tests.bench.stub import CONTAINER
from tests.servers import process

RCLONE, REQUESTS, BOTO3, SWIFTCLIENT = "rclone", "requests", "boto3", "python-swiftclient"

#: The stub asks for no token.
_CLOUDS = "clouds: {stub: {auth_type: none, auth: {endpoint: http://127.0.0.1/v1/AUTH_bench}}}\n"

#: Does a job; returns what the process took, and seconds and CPU-seconds of the work alone.
Do = Callable[[Job], tuple[Usage, float, float]]


class Objects:
    """Files to upload, in memory like the stub's.

    :param folder: on a memory filesystem; made.
    :param distinct: so many different contents; the rest are links to them.
    """

    def __init__(self, folder: Path, count: int, size: int, distinct: int = 100) -> None:
        folder.mkdir()
        self.folder = folder
        self.names: list[str] = []
        self.sizes: dict[str, int] = {}
        random_ = random.Random(size)
        for number in range(count):
            if number < distinct:
                md5 = _write(folder / "new", size, random_)
                (folder / "new").rename(folder / f"{md5}-{number}")
                self.sizes[md5] = size
            else:
                first = self.names[number % distinct]
                md5 = first[:32]
                (folder / f"{md5}-{number}").hardlink_to(folder / first)
            self.names.append(f"{md5}-{number}")

    def job(self, operation: str, storage_url: str, concurrency: int, check: int = 0) -> Job:
        """A job for all of them."""
        return Job(
            operation,
            storage_url,
            CONTAINER,
            self.names,
            str(self.folder),
            self.sizes,
            concurrency,
            check,
        )

    def some(self, job: Job, count: int) -> Job:
        """The same job for fewer of them."""
        return replace(job, names=self.names[:count])


def check_files(folder: Path, names: Sequence[str], what: str) -> None:
    """Whether each file has the content that its name begins with the MD5 of.

    :raises CandidateError: if not.
    """
    for name in names:
        digest = hashlib.md5()
        try:
            with (folder / name).open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise CandidateError(f"{what}: {error}") from None
        if digest.hexdigest() != name[:32]:
            raise CandidateError(f"{what}: {name} has other bytes")


def driver(python: str, module: str, folder: Path) -> Do:
    """A candidate that is a driver program.

    :param folder: for the jobs.
    """

    clouds = folder / "clouds.yaml"
    clouds.write_text(_CLOUDS)

    def do(job: Job) -> tuple[Usage, float, float]:
        path = folder / "job.json"
        path.write_text(json.dumps(asdict(job)))
        env = {"PYTHONPATH": str(process.ROOT), "OS_CLIENT_CONFIG_FILE": str(clouds)}
        used = run([python, "-m", f"tests.bench.drivers.{module}", path], folder, env)
        told = json.loads(used.output.splitlines()[-1])
        return used, told["seconds"], told["cpu"]

    return do


def rclone(folder: Path) -> Do:
    """rclone with a token and a storage URL, so that it signs in nowhere."""
    program = peers.rclone()
    got = folder / "rclone-got"

    def do(job: Job) -> tuple[Usage, float, float]:
        env = {
            "RCLONE_CONFIG": "",
            "RCLONE_SWIFT_AUTH_TOKEN": "none",
            "RCLONE_SWIFT_STORAGE_URL": job.storage_url,
            "RCLONE_SWIFT_AUTH": f"{job.storage_url}/auth",
            "RCLONE_SWIFT_CHUNK_SIZE": "5Gi",
        }
        listed = folder / "rclone-names"
        listed.write_text("\n".join(job.names))
        remote = f":swift:{job.container}"
        ends = [job.folder, remote] if job.operation == "PUT" else [remote, str(got)]
        parallel = ["--transfers", str(job.concurrency), "--checkers", str(job.concurrency)]
        only = ["--files-from", listed, "--no-traverse"]
        trust = ["--ca-cert", job.ca] if job.ca else []
        used = run([program, "copy", *ends, *parallel, *only, *trust], folder, env)
        if job.operation == "GET":
            check_files(got, job.names, "rclone's download")
            for name in job.names:
                (got / name).unlink()
        return used, used.wall, used.cpu

    return do


def candidates(folder: Path) -> tuple[dict[str, Do], dict[str, str]]:
    """All that can be had, and what is missing."""
    makers: dict[str, Callable[[], Do]] = {
        OURS: lambda: driver(sys.executable, "our_objects", folder),
        SWIFTCLIENT: lambda: driver(peers.SWIFTCLIENT.python, "swiftclient_objects", folder),
        BOTO3: lambda: driver(peers.S3.python, "boto3_objects", folder),
        REQUESTS: lambda: driver(peers.REQUESTS.python, "requests_objects", folder),
        RCLONE: lambda: rclone(folder),
    }
    found: dict[str, Do] = {}
    missing: dict[str, str] = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except peers.MissingPeerError as error:
            missing[name] = str(error)
    return found, missing


def _write(path: Path, size: int, random_: random.Random) -> str:
    """Write random bytes; returns their MD5."""
    digest = hashlib.md5()
    with path.open("wb") as file:
        for start in range(0, size, 1 << 20):
            block = random_.randbytes(min(1 << 20, size - start))
            digest.update(block)
            file.write(block)
    return digest.hexdigest()
