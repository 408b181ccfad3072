"""The commands that need no Swift: ``update-db``, ``check-deleted``, ``update``, ``write``."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from datetime import datetime

from swift_provider.offload.cache import Cache
from swift_provider.offload.command.durations import cut_off, milliseconds
from swift_provider.offload.command.exit_status import DONE, SOME_FAILED
from swift_provider.offload.command.inputs import Inputs
from swift_provider.offload.jobs import update as jobs


def update_db(inputs: Inputs) -> int:
    """``update-db DURATION``."""
    then = cut_off(inputs.arguments.duration, datetime.now())
    with closing(Cache(inputs.arguments.cache_db)) as cache:
        with closing(inputs.database()) as database:
            since = then.isoformat(" ")
            print("Syncing files that haven't been accessed since:", since, flush=True)
            changes = jobs.update_db(database, cache, milliseconds(then))
        print(f"Synced {changes.new} new rows", flush=True)
        if changes.gone:
            print(f"Removed {changes.gone} rows: accessed since, or purged by Synapse")
        if changes.refused:
            print(f"Left out {changes.refused} rows that lack a part of their name")
    return DONE


def check_deleted(inputs: Inputs) -> int:
    """``check-deleted BASE_PATH``."""
    base_path = inputs.base_path()
    with (
        closing(Cache(inputs.arguments.cache_db)) as cache,
        closing(inputs.progress(cache.count(with_deleted=True))) as progress,
    ):
        checked = jobs.check_deleted(cache, base_path, progress.advance, progress.note)
    print(f"Updated {checked.deleted} as deleted", flush=True)
    if checked.returned:
        print(f"Updated {checked.returned} as back on disk")
    if checked.unsafe:
        print(f"Skipped {checked.unsafe} rows with names that Synapse would not use")
    if checked.unreadable:
        print(f"Failed: {checked.unreadable} cannot be looked for; they count as on disk")
        return SOME_FAILED
    return DONE


def update(inputs: Inputs) -> int:
    """``update BASE_PATH DURATION``."""
    inputs.base_path()  # Report a mistake before the work begins.
    return update_db(inputs) or check_deleted(inputs)


def write(inputs: Inputs) -> int:
    """``write [OUT]``."""

    def report(line: str) -> None:
        print(f"Skipped: {line}", file=sys.stderr)

    out = inputs.arguments.out
    with closing(Cache(inputs.arguments.cache_db)) as cache:
        if out == "-":
            # With `write | head`, end silently when head closes the pipe, as other tools do.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            jobs.write(cache, sys.stdout, report)
            sys.stdout.flush()
        else:
            with open(out, "w", encoding="utf-8") as file:
                jobs.write(cache, file, report)
    return DONE
