"""Keystone and Swift for the comparisons, and an independent look into Swift."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.bench.measure import CandidateError
from tests.servers import process
from tests.servers.keystone import Credentials, Keystone, running_keystone
from tests.servers.swift import Swift, running_swift

CLOUD = "matrix"
PASSWORD = "only-on-loopback"
_READERS = 4


@dataclass(frozen=True)
class Cluster:
    """One Swift with two doors: its own API (Keystone) and S3's (TempAuth)."""

    folder: Path
    keystone: Keystone
    account: Credentials
    swift: Swift
    clouds_yaml: Path

    def container(self, name: str) -> Container:
        """A new container for those who speak Swift's own API."""
        token = self.keystone.token(self.account)
        return Container(self.swift.account_url(self.account.project_id), token, name)

    def bucket(self, name: str) -> Container:
        """A new container for those who speak S3; it is in TempAuth's account."""
        user = {"X-Auth-User": self.swift.tempauth_user, "X-Auth-Key": self.swift.tempauth_key}
        with process.local_session() as http:
            answer = http.get(self.swift.tempauth_url, headers=user, timeout=30)
            answer.raise_for_status()
            url, token = answer.headers["X-Storage-Url"], answer.headers["X-Auth-Token"]
            # TempAuth's tokens are first shown to Keystone, which is slow: sign instead.
            headers = {"X-Auth-Token": token, "X-Account-Meta-Temp-URL-Key": PASSWORD}
            http.post(url, headers=headers, timeout=60).raise_for_status()
        return Container(url, token, name, sign=True)

    def s3_environment(self) -> dict[str, str]:
        """For boto3."""
        return {
            "AWS_ACCESS_KEY_ID": self.swift.tempauth_user,
            "AWS_SECRET_ACCESS_KEY": self.swift.tempauth_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start Keystone and Swift, and stop them at the end of the block."""
    with contextlib.ExitStack() as stack:
        keystone = stack.enter_context(running_keystone(folder / "keystone", token_seconds=86400))
        account = keystone.create_account("matrix", "synapse", PASSWORD)
        clouds_yaml = account.write_clouds_yaml(folder / "clouds.yaml", cloud=CLOUD)
        swift = stack.enter_context(running_swift(folder / "swift", keystone, s3_api=True))
        yield Cluster(folder, keystone, account, swift, clouds_yaml)


class Container:
    """A container as plain HTTP requests see it, past all candidates.

    :param sign: reach the objects by signed URLs (Swift's "Temporary URL middleware")
        and not by the token.
    """

    def __init__(self, storage_url: str, token: str, name: str, *, sign: bool = False) -> None:
        self.name = name
        self.url = f"{storage_url}/{name}"
        self._sign = sign
        self._objects = process.local_session()
        if not sign:
            self._objects.headers["X-Auth-Token"] = token
        self._session = process.local_session()
        self._session.headers["X-Auth-Token"] = token
        self._session.put(self.url, timeout=60).raise_for_status()

    def set_headers(self, headers: Mapping[str, str]) -> None:
        """Set metadata of the container."""
        self._session.post(self.url, headers=headers, timeout=60).raise_for_status()

    def listed(self) -> dict[str, dict[str, Any]]:
        """Rows of the listing by object name."""
        rows: dict[str, dict[str, Any]] = {}
        marker = ""
        while True:
            query = {"format": "json", "marker": marker}
            answer = self._session.get(self.url, params=query, timeout=60)
            answer.raise_for_status()
            page = json.loads(answer.text or "[]")
            if not page:
                return rows
            rows.update((row["name"], row) for row in page)
            marker = page[-1]["name"]

    def check(self, files: Mapping[str, str]) -> None:
        """Compare every object with the file of the same name, byte by byte.

        :param files: MD5 by name.
        :raises CandidateError: if one is missing, too many, or different.
        """
        rows = self.listed()
        if rows.keys() != files.keys():
            lost, extra = files.keys() - rows.keys(), rows.keys() - files.keys()
            raise CandidateError(
                f"{len(lost)} objects missing, {len(extra)} too many: {_few(lost)}"
            )
        with ThreadPoolExecutor(_READERS) as pool:
            found = dict(zip(files, pool.map(self.md5, files), strict=True))
        wrong = [name for name, md5 in files.items() if found[name] != md5]
        if wrong:
            raise CandidateError(f"{len(wrong)} objects differ from their files: {_few(wrong)}")

    def md5(self, name: str) -> str:
        """Of an object's bytes, as they come."""
        digest = hashlib.md5()
        with self._objects.get(self._object("GET", name), stream=True, timeout=60) as answer:
            answer.raise_for_status()
            for chunk in answer.iter_content(1024 * 1024):
                digest.update(chunk)
        return digest.hexdigest()

    def put(self, files: Mapping[str, Path]) -> None:
        """Store files under these names."""

        def put(name: str) -> None:
            content = files[name].read_bytes()
            url = self._object("PUT", name)
            self._objects.put(url, data=content, timeout=60).raise_for_status()

        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(put, files))

    def delete(self, names: list[str]) -> None:
        """Delete objects."""

        def delete(name: str) -> None:
            self._objects.delete(self._object("DELETE", name), timeout=60).raise_for_status()

        with ThreadPoolExecutor(_READERS) as pool:
            list(pool.map(delete, names))

    def _object(self, method: str, name: str) -> str:
        url = f"{self.url}/{quote(name)}"
        if not self._sign:
            return url
        path = "/v1/" + f"{self.url}/{name}".partition("/v1/")[2]
        expires = int(time.time()) + 3600
        text = f"{method}\n{expires}\n{path}"
        signature = hmac.new(PASSWORD.encode(), text.encode(), hashlib.sha256).hexdigest()
        return f"{url}?temp_url_sig={signature}&temp_url_expires={expires}"


def _few(names: Any) -> str:
    return ", ".join(sorted(names)[:3])
