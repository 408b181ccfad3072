"""What ``status`` prints about ``local_disk`` and about the commands."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Mapping
from typing import Any

from swift_provider.keeper import BadMessageError, Report, State, Task
from swift_provider.offload.command.exit_status import DONE, WRONG_USAGE
from swift_provider.offload.command.last_runs import LastRun
from swift_provider.sizes import readable

_TASKS = {
    Task.KEEP.value: "keep the disk within its limits",
    Task.REPAIR.value: "upload what Swift lacks",
    Task.ORPHANS.value: "remove files that Synapse does not know",
    Task.PRUNE.value: "delete from Swift what Synapse has deleted",
}
#: The longest text that is shown of a command that was refused.
_REFUSAL_CHARACTERS = 100


def of_local_disk(
    base_path: str, holder: str | None, state: State | None, *, wanted: bool
) -> list[str]:
    """What local_disk did last.

    :param holder: the process that keeps the disk within its budget.
    :param wanted: whether ``homeserver.yaml`` has ``local_disk``.
    """
    if state is None and holder is None and not wanted:
        return [f"local_disk is not in use for {base_path}"]
    lines = [f"local_disk: {base_path} is kept within its budget by {holder or 'no process'}"]
    if state is None:
        return lines
    lines.append(f"Limits: {_limits(state.limits)}")
    if holder is not None and state.running is not None:
        tasks = ", ".join(_TASKS.get(one, str(one)) for one in state.running.get("tasks") or ())
        lines.append(f"Pass in progress, since {time_text(state.running.get('began'))}: {tasks}")
    lines += _last_pass(state)
    lines.append(
        f"Last pass without trouble, and within the limits: {time_text(state.last_success)}"
    )
    lines += [
        f"Last done: {_TASKS.get(task, task)}: {time_text(when)}"
        for task, when in sorted(state.done.items())
    ]
    return lines


def of_commands(runs: Mapping[str, LastRun]) -> list[str]:
    """What each command did last. The reason why one was refused is cut short."""
    if not runs:
        return []
    return ["Last run of each command:"] + [_of_command(*one) for one in sorted(runs.items())]


def _of_command(name: str, run: LastRun) -> str:
    how, text = "" if run.status == DONE else f" exit status {run.status}:", run.text
    if run.status == WRONG_USAGE:
        text = textwrap.shorten(text, _REFUSAL_CHARACTERS, placeholder=" ...")
    return f"{name}: {time_text(run.ended)}, {run.ended - run.began:.0f} s:{how} {text}"


def _limits(limits: dict[str, Any]) -> str:
    parts = []
    for name, value in limits.items():
        if name == "older_than" and value is not None:
            days, rest = divmod(value, 86400)
            parts.append(f"{name} {value // 3600} h" if rest else f"{name} {days} d")
        elif isinstance(value, float):
            parts.append(f"{name} {value:.1%}")
        elif isinstance(value, bool):
            parts += [name] if value else []
        elif value is not None:
            parts.append(f"{name} {readable(value)}")
    return ", ".join(parts)


def _last_pass(state: State) -> list[str]:
    if state.run is None:
        return ["Last pass: none yet"]
    try:
        report = Report.from_line(json.dumps(state.run.get("report")).encode())
    except BadMessageError:  # Another version wrote the file.
        return [f"Last pass: {time_text(state.run.get('ended'))}"]
    did = (
        f"looked at {report.looked_at} media, uploaded {report.uploaded} files, "
        f"removed {report.removed} ({readable(report.freed)})"
    )
    if report.pruned:
        did += f", deleted {report.pruned} objects from Swift"
    lines = [f"Last pass: {time_text(state.run.get('ended'))}, {report.seconds:.0f} s: {did}"]
    if report.on_disk is not None:
        files = "1 file" if report.files == 1 else f"{report.files} files"
        lines.append(f"On disk then: {readable(report.on_disk)} in {files}")
    for what, reasons in (("Left alone", report.skipped), ("Failed", report.failed)):
        lines += [f"{what}: {count}: {why}" for why, count in sorted(reasons.items())]
    return lines


def time_text(when: object) -> str:
    """A time for people, and how long ago it was."""
    if not isinstance(when, (int, float)):
        return "never"
    ago = max(0, int(time.time() - when))
    unit, size = next(
        (unit, size)
        for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
        if ago >= 2 * size or size == 1
    )
    return f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(when))} ({ago // size} {unit} ago)"
