"""``python -m tests.bench.drivers.plain_select DATABASE_YAML``: what a database alone can tell.

Prints how many media there are, and their bytes.
"""

from __future__ import annotations

import sys
from contextlib import closing

from swift_provider.offload.command.homeserver import read_database_yaml
from swift_provider.offload.database import TABLES, Database


def main() -> None:
    number = size = 0
    with closing(Database(read_database_yaml(sys.argv[1]))) as database:
        for table in TABLES.values():
            ((count, length),) = database.rows(
                f"SELECT count(*), COALESCE(sum(media_length), 0) FROM {table}", ()
            )
            number, size = number + int(count), size + int(length)
    print(number, size)


if __name__ == "__main__":
    main()
