"""nginx as a Swift that is never the limit: takes and serves files in memory.

An object's name holds the MD5 of its content, so that the stub can answer with
the right ``ETag`` without looking: as ``<md5>-17``, or as the path of local media
whose id is the MD5. Every container exists and lists nothing. Tokens are not asked for.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench import peers
from tests.servers import process, tls

ACCOUNT = "/v1/AUTH_bench"
CONTAINER = "media"

_CONFIG = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 100000000;
    client_max_body_size 0;
    client_body_temp_path {folder}/incoming;
    proxy_temp_path {folder}/unused;
    fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused;
    scgi_temp_path {folder}/unused;
    etag off;
    server {{
        listen 127.0.0.1:{http};
        listen 127.0.0.1:{https} ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        root {folder}/objects;
        default_type application/octet-stream;
        dav_methods PUT DELETE;
        create_full_put_path on;
        location ~ "^/v1/AUTH_bench/[^/]+/local_content/(..)/(..)/(.{{28}})$" {{
            add_header ETag $1$2$3;
            add_header X-Trans-Id stub always;
        }}
        location ~ "^/v1/AUTH_bench/[^/]+/([0-9a-f]{{32}})[^/]*$" {{
            add_header ETag $1;
            add_header X-Trans-Id stub always;
        }}
        location / {{
            default_type application/json;
            add_header X-Container-Object-Count 0;
            add_header X-Container-Bytes-Used 0;
            if ($request_method = GET) {{
                return 200 "[]";
            }}
            return 204;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Stub:
    """A running nginx."""

    #: Storage URLs, as a catalogue would name them.
    http: str
    https: str
    http_port: int
    #: PEM file of the authority to trust.
    ca: Path
    #: What is in the container.
    objects: Path

    def container(self, name: str) -> Path:
        """What is in another container."""
        return self.objects.with_name(name)

    def empty(self) -> None:
        """Remove all objects."""
        for path in self.objects.parent.rglob("*"):
            if path.is_file():
                path.unlink()


@contextlib.contextmanager
def running_stub() -> Iterator[Stub]:
    """Start it on a memory filesystem, and remove everything at the end of the block.

    :raises MissingPeerError: if there is no nginx.
    :raises ServiceError: if it cannot start.
    """
    nginx = peers.nginx()
    with tempfile.TemporaryDirectory(prefix="swift-stub-", dir="/dev/shm") as name:
        folder = Path(name)
        authority = tls.make_ca(folder / "tls")
        objects = folder / "objects" / ACCOUNT.strip("/") / CONTAINER
        objects.mkdir(parents=True)
        http, https = process.free_port(), process.free_port()
        config = _CONFIG.format(
            folder=folder,
            http=http,
            https=https,
            cert=authority.server_cert,
            key=authority.server_key,
        )
        (folder / "nginx.conf").write_text(config)
        command = [nginx, "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "nginx.err"]
        child = process.Process("nginx", command, folder)
        with process.stopping(child):
            child.wait_for_port(http)
            yield Stub(
                f"http://{process.LOOPBACK}:{http}{ACCOUNT}",
                f"https://{process.LOOPBACK}:{https}{ACCOUNT}",
                http,
                authority.ca,
                objects,
            )
