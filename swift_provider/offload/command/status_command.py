"""The command ``status``: what is wrong, whether Swift can be used, and how ``local_disk`` goes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from swift_provider.config import Settings
from swift_provider.errors import ConfigError
from swift_provider.keeper import (
    OVER_FOR_NOW,
    State,
    Trouble,
    holder_of,
    load_state,
    state_path,
)
from swift_provider.offload.command.console import print_json
from swift_provider.offload.command.exit_status import DONE, SOME_FAILED
from swift_provider.offload.command.inputs import Inputs
from swift_provider.offload.command.last_runs import last_runs, why_unreadable
from swift_provider.offload.command.status_text import of_commands, of_local_disk, time_text
from swift_provider.offload.print_line import print_line

if TYPE_CHECKING:
    from swift_provider.offload.command.swift_places import SwiftPlace

#: After this long, what should end by itself is wrong.
PATIENCE_SECONDS = 3600.0
#: With less free space no file can be written.
NO_SPACE_BYTES = 1 << 16


def status(inputs: Inputs) -> int:
    """``status [BASE_PATH]``.

    :returns: :data:`SOME_FAILED` if something is wrong with ``local_disk``, or a place in Swift
        cannot be used.
    """
    base_path = inputs.base_path(may_be_empty=True)
    try:
        holder = holder_of(base_path)
    except OSError as error:
        raise ConfigError(
            f"cannot read {error.filename} ({error.strerror}): run as the user that Synapse runs as"
        ) from error
    state = load_state(base_path)
    entries = inputs.entries()
    wrong: list[str] = []
    notes: list[str] = []
    wanted = any(entry.local_disk is not None for entry in entries)
    if holder is None and (wanted or state is not None):
        wrong.append(_why_nobody(base_path, inputs.files, wanted=wanted))
    elif state is not None:
        wrong, notes = _troubles(state)
    if _is_full(base_path):
        # Then local_disk cannot write its state either.
        wrong.append(f"the disk of {base_path} is full")
    places = _places(entries)
    cache_path = inputs.arguments.cache_db
    runs = last_runs(cache_path)
    unreadable = why_unreadable(cache_path)
    if unreadable is not None:
        notes.append(unreadable)
    exit_status = DONE if not wrong and all(place.usable for place in places) else SOME_FAILED
    if inputs.arguments.json:
        known = None if state is None else vars(state)
        figures: dict[str, Any] = {
            "base_path": base_path,
            "kept_by": holder,
            "wrong": wrong,
            "notes": notes,
            "state": known,
            "commands": {name: vars(run) for name, run in runs.items()},
        }
        if places:
            figures["members"] = [{**vars(place), "usable": place.usable} for place in places]
        print_json(figures, exit_status)
    else:
        wrong += [str(place) for place in places if not place.usable]
        blocks = [
            [f"Wrong: {text}" for text in wrong] + [f"Note: {text}" for text in notes],
            of_local_disk(base_path, holder, state, wanted=wanted),
            [str(place) for place in places if place.usable],
            of_commands(runs),
        ]
        print_line("\n\n".join("\n".join(lines) for lines in blocks if lines))
    return exit_status


def _is_full(path: str) -> bool:
    """Whether no file can be made. Some file systems say 0 for everything."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return False  # It was there a moment ago.
    no_room = disk.f_blocks and disk.f_bavail * disk.f_frsize < NO_SPACE_BYTES
    return bool(no_room or (disk.f_files and not disk.f_favail))


def _places(entries: Sequence[Settings]) -> list[SwiftPlace]:
    """The places in Swift of all entries of ``homeserver.yaml``; empty if it names none."""
    if not entries:
        return []
    from swift_provider.offload.command.swift_places import ask_places

    return ask_places(entries)


def _why_nobody(base_path: str, files: str, *, wanted: bool) -> str:
    """Why no process keeps the disk, and what to do.

    :param files: of ``homeserver.yaml``; empty if none was read.
    :param wanted: whether they have ``local_disk``.
    """
    nobody = "no process of Synapse keeps this disk within its budget now"
    remedy = f"delete {state_path(base_path)}"
    if not files:
        return (
            f"{nobody}. Either Synapse does not run, or its configuration has no local_disk any "
            f"more: then {remedy}"
        )
    if wanted:
        return f"{nobody}, although {files} has local_disk: restart Synapse, or look into its log"
    return f"{nobody}, and {files} has no local_disk any more: {remedy}"


def _troubles(state: State) -> tuple[list[str], list[str]]:
    """What is wrong, and what should end by itself."""
    wrong: list[str] = []
    notes: list[str] = []
    for one in state.troubles:
        text = f"Since {time_text(one.get('since'))}: {one.get('text')}"
        (notes if _ends_by_itself(one) else wrong).append(text)
    # A process that was restarted since does not know.
    died = None if state.run is None else state.run.get("died")
    if died and not any(died in text for text in wrong):
        wrong.append(f"The last pass died: {died}")
    return wrong, notes


def _ends_by_itself(trouble: dict[str, Any]) -> bool:
    if trouble.get("reason") != OVER_FOR_NOW:
        return trouble.get("reason") == Trouble.BUSY.value
    return time.time() - (trouble.get("since") or 0) < PATIENCE_SECONDS
