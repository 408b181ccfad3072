"""Objects by python-swiftclient, one connection in each thread."""

import hashlib
import os
from collections.abc import Callable

import swiftclient

from tests.bench.drivers.job import in_threads, read_job


def main() -> None:
    job = read_job()

    def connect() -> Callable[[str], None]:
        connection = swiftclient.Connection(
            preauthurl=job.storage_url, preauthtoken="none", retries=0, cacert=job.ca
        )

        def put(name: str) -> None:
            path = job.path(name)
            with open(path, "rb") as content:
                etag = connection.put_object(
                    job.container, name, content, content_length=os.path.getsize(path)
                )
            # python-swiftclient hashes only what it is told to: as its own uploads do.
            if etag != hashlib.md5(job.read(name)).hexdigest():
                raise ValueError(f"{name} was stored with other bytes")

        def get(name: str) -> None:
            job.check_body(name, connection.get_object(job.container, name)[1])

        def head(name: str) -> None:
            headers = connection.head_object(job.container, name)
            job.check_size(name, int(headers["content-length"]))

        return {"PUT": put, "GET": get, "HEAD": head}[job.operation]

    in_threads(job, connect)


if __name__ == "__main__":
    main()
