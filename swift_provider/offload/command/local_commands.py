"""The commands that need no Swift: ``update-db``, ``check-deleted``, ``update``, ``write``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from tempfile import TemporaryFile
from typing import Any

from swift_provider.offload.cache import Cache
from swift_provider.offload.command.console import print_json
from swift_provider.offload.command.durations import cut_off, milliseconds
from swift_provider.offload.command.exit_status import DONE, SOME_FAILED
from swift_provider.offload.command.inputs import Inputs
from swift_provider.offload.command.slow import told_if_slow
from swift_provider.offload.jobs import update as jobs
from swift_provider.offload.print_line import print_line


def update_db(inputs: Inputs) -> int:
    """``update-db DURATION``."""
    since(inputs)
    inputs.announce()
    return _end(inputs, _update_db(inputs))


def check_deleted(inputs: Inputs) -> int:
    """``check-deleted BASE_PATH``."""
    base_path = inputs.base_path()
    inputs.announce(database=False)
    with closing(inputs.lock(base_path)):
        return _end(inputs, _check_deleted(inputs, base_path))


def update(inputs: Inputs) -> int:
    """``update BASE_PATH DURATION``."""
    base_path = inputs.base_path()  # Report a mistake before the work begins.
    since(inputs)
    inputs.announce()
    with closing(inputs.lock(base_path)):
        return _end(inputs, update_on(inputs, base_path))


def update_on(inputs: Inputs, base_path: str) -> dict[str, Any]:
    """Do what ``update`` does, with a media store that is locked.

    :returns: the figures for ``--json``.
    """
    return {**_update_db(inputs), **_check_deleted(inputs, base_path)}


def write(inputs: Inputs) -> int:
    """``write [OUT]``."""
    skipped = 0

    def report(line: str) -> None:
        nonlocal skipped
        skipped += 1
        print_line(f"Skipped: {line}", sys.stderr)

    out, as_json = inputs.arguments.out, inputs.arguments.json
    with closing(Cache(inputs.arguments.cache_db)) as cache:
        if out != "-":
            with open(out, "w", encoding="utf-8") as file:
                jobs.write(cache, file, report)
            return _end(inputs, {"skipped": skipped})
        if not as_json:
            jobs.write(cache, sys.stdout, report)
            return DONE
        # An error must come before the first byte of the object; the list may be long.
        with TemporaryFile("w+", encoding="utf-8") as file:
            jobs.write(cache, file, report)
            file.seek(0)
            print('{"paths": [', end="")
            for number, line in enumerate(file):
                print("," * (number > 0), json.dumps(line.rstrip("\n")), sep="\n", end="")
            print(f'], "skipped": {skipped}, "status": {DONE}}}')
    return DONE


def since(inputs: Inputs) -> datetime:
    """The time since which media must not have been accessed.

    :raises ConfigError: if DURATION is wrong.
    """
    return cut_off(inputs.arguments.duration, datetime.now())


def _update_db(inputs: Inputs) -> dict[str, Any]:
    """:returns: the figures for ``--json``."""
    then = since(inputs)
    text = then.isoformat(" ")
    with (
        closing(Cache(inputs.arguments.cache_db)) as cache,
        told_if_slow("Waiting for the database", inputs.note),
        closing(inputs.database()) as database,
    ):
        _say(inputs, f"Syncing files that haven't been accessed since: {text}")
        inputs.said.clear()  # It has not been done yet.
        changes = jobs.update_db(database, cache, milliseconds(then))
    _say(inputs, f"Synced {changes.new} new rows")
    if changes.gone:
        _say(inputs, f"Removed {changes.gone} rows: not idle for that long, or purged by Synapse")
    if changes.refused:
        _say(inputs, f"Left out {changes.refused} rows that lack a part of their name")
    return {"since": text, **vars(changes)}


def _check_deleted(inputs: Inputs, base_path: str) -> dict[str, Any]:
    """:returns: the figures for ``--json``."""
    with (
        closing(Cache(inputs.arguments.cache_db)) as cache,
        closing(inputs.progress(cache.count(with_deleted=True))) as progress,
    ):
        checked = jobs.check_deleted(cache, base_path, progress.advance, progress.note)
    _say(inputs, f"Updated {checked.deleted} as deleted")
    if checked.returned:
        _say(inputs, f"Updated {checked.returned} as back on disk")
    if checked.unsafe:
        _say(inputs, f"Skipped {checked.unsafe} rows with names that Synapse would not use")
    if checked.unreadable:
        _say(inputs, f"Failed: {checked.unreadable} cannot be looked for; they count as on disk")
    return vars(checked)


def _say(inputs: Inputs, line: str) -> None:
    inputs.said.append(line)
    if not (inputs.arguments.json or inputs.arguments.quiet):
        print_line(line)


def _end(inputs: Inputs, figures: Mapping[str, Any]) -> int:
    status = SOME_FAILED if figures.get("unreadable") else DONE
    inputs.summarize([])
    if inputs.arguments.json:
        print_json(figures, status)
    elif inputs.arguments.quiet and inputs.said:
        print_line(inputs.summary)
    return status
