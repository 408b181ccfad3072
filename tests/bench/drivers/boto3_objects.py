"""Objects by boto3, as the S3 sibling uses it: one client in each thread, ``upload_file``."""

from collections.abc import Callable
from urllib.parse import urlsplit

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config

from tests.bench.drivers.job import in_threads, read_job


def main() -> None:
    job = read_job()
    session = boto3.session.Session()
    where = urlsplit(job.storage_url)
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    client = session.client(
        "s3",
        endpoint_url=f"{where.scheme}://{where.netloc}",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        region_name="us-east-1",
        config=config.merge(Config(max_pool_connections=job.concurrency)),
    )
    transfer = TransferConfig(use_threads=False)
    # nginx has no accounts: the first two parts of the path stand for the bucket's name.
    version, account = where.path.strip("/").split("/")
    bucket = version

    def key(name: str) -> str:
        return f"{account}/{job.container}/{name}"

    def put(name: str) -> None:
        client.upload_file(job.path(name), bucket, key(name), Config=transfer)

    def get(name: str) -> None:
        body = client.get_object(Bucket=bucket, Key=key(name))["Body"]
        job.check_body(name, body.read())

    def head(name: str) -> None:
        job.check_size(name, client.head_object(Bucket=bucket, Key=key(name))["ContentLength"])

    handle: Callable[[str], None] = {"PUT": put, "GET": get, "HEAD": head}[job.operation]
    in_threads(job, lambda: handle)


if __name__ == "__main__":
    main()
