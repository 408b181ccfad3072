"""Objects by requests: one session for all threads."""

import hashlib
from collections.abc import Callable

import requests
from requests.adapters import HTTPAdapter

from tests.bench.drivers.job import in_threads, read_job

CHUNK_BYTES = 1024 * 1024
#: Below this a body is handled in one piece.
WHOLE_BYTES = 16 * CHUNK_BYTES


class Hashed:
    """A file that is hashed while requests reads it."""

    def __init__(self, path: str, size: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  (closed when the upload is over)
        self.len = size
        self.md5 = hashlib.md5()

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        self.md5.update(data)
        return data

    def close(self) -> None:
        self._file.close()


def main() -> None:
    job = read_job()
    session = requests.Session()
    session.trust_env = False
    session.verify = job.ca or True
    session.headers["X-Auth-Token"] = "none"
    adapter = HTTPAdapter(pool_connections=job.concurrency, pool_maxsize=job.concurrency)
    session.mount("http://", adapter)
    session.mount("https://", adapter)

    def url(name: str) -> str:
        return f"{job.storage_url}/{job.container}/{name}"

    def put(name: str) -> None:
        body = Hashed(job.path(name), job.sizes[name[:32]])
        answer = session.put(url(name), data=body)
        answer.raise_for_status()
        body.close()
        if answer.headers["ETag"] != body.md5.hexdigest():
            raise ValueError(f"{name} was stored with other bytes")

    def get(name: str) -> None:
        if job.sizes[name[:32]] < WHOLE_BYTES:
            answer = session.get(url(name))
            answer.raise_for_status()
            job.check_body(name, answer.content)
            return
        digest = hashlib.md5()
        with session.get(url(name), stream=True) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_content(CHUNK_BYTES):
                digest.update(chunk)
        if digest.hexdigest() != name[:32]:
            raise ValueError(f"{name} came with other bytes")

    def head(name: str) -> None:
        answer = session.head(url(name))
        answer.raise_for_status()
        job.check_size(name, int(answer.headers["Content-Length"]))

    handle: Callable[[str], None] = {"PUT": put, "GET": get, "HEAD": head}[job.operation]
    in_threads(job, lambda: handle)


if __name__ == "__main__":
    main()
