"""The commands that need no Swift: ``update-db``, ``check-deleted``, ``update``, ``write``."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from datetime import datetime

from swift_provider.offload.cache import Cache
from swift_provider.offload.command.durations import cut_off, milliseconds
from swift_provider.offload.command.exit_status import DONE
from swift_provider.offload.command.inputs import Wiring
from swift_provider.offload.jobs import update as jobs


def update_db(wiring: Wiring) -> int:
    """``update-db DURATION``."""
    then = cut_off(wiring.arguments.duration, datetime.now())
    with closing(Cache(wiring.arguments.cache_db)) as cache:
        with closing(wiring.database()) as database:
            since = then.isoformat(" ")
            print("Syncing files that haven't been accessed since:", since, flush=True)
            changes = jobs.update_db(database, cache, milliseconds(then))
        print(f"Synced {changes.new} new rows", flush=True)
        if changes.gone:
            print(f"Forgot {changes.gone} rows: accessed since, or purged by Synapse")
        if changes.refused:
            print(f"Left out {changes.refused} rows that lack a part of their name")
    return DONE


def check_deleted(wiring: Wiring) -> int:
    """``check-deleted BASE_PATH``."""
    base_path = wiring.base_path()
    with (
        closing(Cache(wiring.arguments.cache_db)) as cache,
        closing(wiring.progress(cache.count(with_deleted=True))) as progress,
    ):
        checked = jobs.check_deleted(cache, base_path, progress.advance)
    print(f"Updated {checked.deleted} as deleted", flush=True)
    if checked.returned:
        print(f"Updated {checked.returned} as back on disk")
    if checked.unsafe:
        print(f"Skipped {checked.unsafe} rows with names that Synapse would not use")
    return DONE


def update(wiring: Wiring) -> int:
    """``update BASE_PATH DURATION``."""
    wiring.base_path()  # a mistake is told before the work begins
    return update_db(wiring) or check_deleted(wiring)


def write(wiring: Wiring) -> int:
    """``write [OUT]``."""

    def report(line: str) -> None:
        print(f"Skipped: {line}", file=sys.stderr)

    out = wiring.arguments.out
    with closing(Cache(wiring.arguments.cache_db)) as cache:
        if out == "-":
            # As other tools end when the reader of their output has enough: silently.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            jobs.write(cache, sys.stdout, report)
            sys.stdout.flush()
        else:
            with open(out, "w", encoding="utf-8") as file:
                jobs.write(cache, file, report)
    return DONE
