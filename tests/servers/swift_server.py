"""``python -m tests.servers.swift_server KIND FOLDER``: one of Swift's servers.

KIND is ``account``, ``container``, ``object`` or ``proxy``. Swift's own scripts
take storage policies and constraints from ``/etc/swift/swift.conf`` alone,
while they are imported. So the folder is named before that.
"""

from __future__ import annotations

import sys

from swift.common import utils


def main() -> None:
    kind, folder = sys.argv[1:]
    utils.set_swift_dir(folder)
    from swift.common.wsgi import run_wsgi

    sys.exit(run_wsgi(f"{folder}/{kind}-server.conf", f"{kind}-server", verbose=True))


if __name__ == "__main__":
    main()
