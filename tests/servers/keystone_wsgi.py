"""``python -m tests.servers.keystone_wsgi PORT``: Keystone under a threaded server.

Werkzeug comes with Keystone (through Flask). Keystone finds its configuration
by the environment variable ``OS_KEYSTONE_CONFIG_FILES``.
"""

from __future__ import annotations

import sys

from keystone.server.wsgi import initialize_public_application
from werkzeug.serving import WSGIRequestHandler, make_server


def main() -> None:
    # Without keep-alive every request would pay for a connection and a thread.
    WSGIRequestHandler.protocol_version = "HTTP/1.1"
    # Taken away, because Keystone reads the command line as well.
    port = int(sys.argv.pop())
    make_server("127.0.0.1", port, initialize_public_application(), threaded=True).serve_forever()


if __name__ == "__main__":
    main()
