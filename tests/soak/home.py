"""A homeserver of the soak: Synapse, the disk of its media store, ``swift_media_upload``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from tests.servers import process
from tests.servers.synapse import Synapse
from tests.soak.disk import Disk

SCRIPT_TIMEOUT_SECONDS = 600
#: How long a script that is asked to stop may take; then it is asked again, and stops at once.
FINISH_SECONDS = 60
#: Synapse applies its log configuration again within a moment.
HANG_UP_SECONDS = 20.0

_TOLD = (
    "synapse_swift_errors_total",
    "synapse_swift_retries_total",
    "synapse_swift_sign_ins_total",
)
_METRIC = re.compile(r"^(?P<name>[a-zA-Z_:]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$", re.M)
_RELOADED = "Reloaded log config"
_SCRIPT = (str(process.ROOT / "scripts" / "swift_media_upload"),)
#: Runs the script as if it were another day.
_LATER_SCRIPT = ("-m", "tests.soak.later")


class Home:
    """One homeserver. Every method blocks.

    :param synapse: started already.
    :param disk: has the media store.
    :param environment: of the script.
    """

    def __init__(self, synapse: Synapse, disk: Disk, environment: dict[str, str]) -> None:
        self.synapse = synapse
        self.disk = disk
        self._environment = environment
        # A SIGHUP ends a Synapse that has not yet set its handler.
        self._may_hang_up = threading.Lock()

    @property
    def media_store(self) -> Path:
        """Synapse's folder of media."""
        return self.synapse.media_store

    def script(
        self, *arguments: str, until: float | None = None, grace_seconds: float | None = None
    ) -> tuple[int | None, str]:
        """Run ``swift_media_upload``.

        :param until: when it is asked to stop, as of :func:`time.monotonic`.
        :param grace_seconds: how long ``prune`` leaves new objects alone, in place of a day.
        :returns: its exit status, ``None`` if it was stopped before it could say one;
            and what it wrote.
        """
        child = self._start_script(arguments, grace_seconds)
        asked_to_stop = stopped_at_once = False
        with child:
            try:
                left = None if until is None else max(1.0, until - time.monotonic())
                output, _ = child.communicate(timeout=left or SCRIPT_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                child.terminate()
                asked_to_stop = True
                try:
                    output, _ = child.communicate(timeout=FINISH_SECONDS)
                except subprocess.TimeoutExpired:
                    # A file to a place that crawls takes hours.
                    child.terminate()
                    stopped_at_once = True
                    output, _ = child.communicate(timeout=FINISH_SECONDS)
            except BaseException:
                child.kill()
                raise
        # While it starts, or after its last word, a signal ends it as any program.
        outside_its_work = asked_to_stop and child.returncode == -signal.SIGTERM
        return None if stopped_at_once or outside_its_work else child.returncode, output

    def killed_script(self, *arguments: str, after_seconds: float) -> tuple[int | None, str]:
        """Run ``swift_media_upload``, and end it by SIGKILL.

        :returns: as :meth:`script`; ``None`` if it was killed.
        """
        with self._start_script(arguments, None) as child:
            try:
                output, _ = child.communicate(timeout=after_seconds)
            except subprocess.TimeoutExpired:
                child.kill()
                output, _ = child.communicate()
            except BaseException:
                child.kill()
                raise
        killed = child.returncode == -signal.SIGKILL
        return None if killed else child.returncode, output

    def _start_script(
        self, arguments: tuple[str, ...], grace_seconds: float | None
    ) -> subprocess.Popen[str]:
        work = self.synapse.folder / "script"
        work.mkdir(exist_ok=True)
        program = _SCRIPT if grace_seconds is None else (*_LATER_SCRIPT, str(grace_seconds))
        config = ("--homeserver-config-path", str(self.synapse.config_path))
        return subprocess.Popen(
            [sys.executable, *program, *arguments, *config, "--no-progress"],
            cwd=work,
            env=process.child_environment(self._environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def restart(self, **entry: Any) -> None:
        """Restart Synapse.

        :param entry: what is new in our entry of ``media_storage_providers``; ``store_local``
            is whether Synapse stores in Swift what its users upload, or leaves that to
            the script.
        """
        settings = yaml.safe_load(self.synapse.config_path.read_text())
        settings["media_storage_providers"][0].update(entry)
        self.synapse.config_path.write_text(yaml.safe_dump(settings, sort_keys=False))
        with self._may_hang_up:
            self.synapse.restart()

    def hang_up(self) -> None:
        """Send SIGHUP, as logrotate does; returns at once. Not while Synapse starts."""
        if not self._may_hang_up.acquire(blocking=False):
            return
        try:
            os.kill(self.synapse.pid, signal.SIGHUP)
        finally:
            self._may_hang_up.release()

    def hang_up_and_wait(self) -> None:
        """Send SIGHUP, and wait until Synapse has applied its log configuration again.

        :raises ServiceError: if it does not.
        """
        before = self._log().count(_RELOADED)
        self.hang_up()
        deadline = time.monotonic() + HANG_UP_SECONDS
        while self._log().count(_RELOADED) == before:
            if time.monotonic() > deadline:
                raise process.ServiceError("Synapse does not reload its log configuration")
            time.sleep(0.1)

    def module_lines(self) -> int:
        """How many lines the module has logged."""
        # After SIGHUP Synapse's own format stands around ours: it logs what goes to stderr.
        return len(re.findall(r" swift_provider\.\S+ (?:INFO|WARNING|ERROR) ", self._log()))

    def _log(self) -> str:
        return self.synapse.log.read_text(errors="replace")

    def metrics(self) -> dict[str, float]:
        """Synapse's own metrics, those of the same name added up."""
        found: dict[str, float] = {}
        for match in _METRIC.finditer(self._metrics()):
            found[match["name"]] = found.get(match["name"], 0.0) + float(match["value"])
        return found

    def told_by_module(self) -> dict[str, float]:
        """What the module counted in this Synapse process: failures, tries, sign-ins."""
        return {
            f"{match['name']}: {what[1]}": float(match["value"])
            for match in _METRIC.finditer(self._metrics())
            if match["name"] in _TOLD
            for what in [re.search('(?:error|result)="([^"]*)"', match["labels"] or "")]
            if what
        }

    def by_member(self, name: str) -> dict[str, float]:
        """One of Synapse's metrics for each member of a mirror set, by the member's name."""
        return {
            member[1]: float(match["value"])
            for match in _METRIC.finditer(self._metrics())
            if match["name"] == name
            for member in [re.search('member="([^"]*)"', match["labels"] or "")]
            if member
        }

    def _metrics(self) -> str:
        with process.local_session() as http:
            answer = http.get(f"{self.synapse.url}/_synapse/metrics", timeout=30)
        answer.raise_for_status()
        return answer.text
