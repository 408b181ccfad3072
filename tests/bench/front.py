"""nginx with TLS in front of the real Swift, as real clouds have it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.bench import peers
from tests.servers import process, tls

_CONFIG = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.err;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 100000000;
    client_max_body_size 0;
    client_body_temp_path {folder}/incoming;
    proxy_temp_path {folder}/unused;
    fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused;
    scgi_temp_path {folder}/unused;
    upstream swift {{
        server {swift};
        keepalive 256;
        keepalive_requests 100000000;
    }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://swift;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
            # nginx makes a TLS record of each of its buffers, and has pages of 4 KiB. A record
            # holds up to 16 KiB, and that is what nginx with its usual buffering, HAProxy and
            # hitch send.
            proxy_buffer_size 16k;
            proxy_buffers 8 16k;
            proxy_request_buffering off;
        }}
    }}
}}
"""


@contextlib.contextmanager
def running_front(swift_url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Start it, and stop it at the end of the block.

    :returns: its URL, in place of ``swift_url``, and the PEM file of the authority to trust.
    :raises MissingPeerError: if there is no nginx.
    :raises ServiceError: if it cannot start.
    """
    nginx = peers.nginx()
    authority = tls.make_ca(folder / "tls")
    port = process.free_port()
    config = _CONFIG.format(
        folder=folder,
        swift=urlsplit(swift_url).netloc,
        port=port,
        cert=authority.server_cert,
        key=authority.server_key,
    )
    (folder / "nginx.conf").write_text(config)
    command = [nginx, "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "nginx.err"]
    child = process.Process("nginx", command, folder)
    with process.stopping(child):
        child.wait_for_port(port)
        yield f"https://{process.LOOPBACK}:{port}", authority.ca
