"""``scripts/soak``: one minute of it, and what makes it fail."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.servers import process
from tests.soak.judge import held, judge_deleted, judge_files, judge_log
from tests.soak.record import Record, Stored


def test_a_minute_of_trouble_loses_nothing(tmp_path: Path) -> None:
    """Load, faults, offload and a restart of Synapse: each file comes back as it was."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "1", "--out", tmp_path],
        cwd=process.ROOT,
        env=process.child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    report = json.loads((tmp_path / "soak.json").read_text())
    assert report["wrong"] == []
    for side in (report["homeserver"], report["neighbour"]):
        assert side["came_back_right"] == side["stored_files"] > 0
        assert side["deleted_right"] == side["done"].get("deletion", 0)
        assert side["done"]["left to the other homeserver by prune"] > 0
    assert report["homeserver"]["done"]["restart of Synapse"] > 0
    assert report["homeserver"]["done"]["uploaded by the script"] > 0
    assert report["faults"]
    assert report["damage_in_swift"]
    assert sum(count for name, count in report["module"].items() if "retries" in name) > 0
    assert report["module"]["synapse_swift_sign_ins_total: issued"] > 1


class Home:
    """A homeserver whose client answers as it is told."""

    def __init__(self, content: bytes | Exception) -> None:
        self._content = content
        self.synapse = self

    def client(self, token: str) -> Home:
        return self

    def download(self, mxc: str) -> bytes:
        if isinstance(self._content, Exception):
            raise self._content
        return self._content


@pytest.mark.parametrize(
    ("comes", "word"), [(b"other", "damaged"), (OSError("gone"), "lost"), (b"right", None)]
)
def test_a_file_that_does_not_come_back_is_a_failure(
    comes: bytes | Exception, word: str | None
) -> None:
    """Other bytes are as bad as none."""
    record = Record()
    record.store(Stored("mxc://x/y", 5, hashlib.sha256(b"right").hexdigest()))
    right = judge_files(Home(comes), "token", record)  # type: ignore[arg-type]
    assert right == (word is None)
    assert [text.startswith(f"{word}: mxc://x/y") for text in record.wrong] == [True] * (1 - right)


class Told:
    """A homeserver with these metrics, and a proxy without connections."""

    connections_open = 0

    def __init__(self, **metrics: float) -> None:
        self.proxy = self.home = self
        self._metrics = metrics

    def metrics(self) -> dict[str, float]:
        return self._metrics


class Names:
    """Swift, with objects of these names, some of which somebody else has stored."""

    def __init__(self, *names: str, foreign: tuple[str, ...] = ()) -> None:
        self.account = self
        self._names = {*names, *foreign}
        self._foreign = foreign

    def names(self, container: str) -> set[str]:
        return self._names

    def call(self, method: str, container: str, name: str) -> SimpleNamespace | None:
        assert method == "HEAD"
        headers = {} if name in self._foreign else {"X-Object-Meta-Matrix-Server": "here"}
        return SimpleNamespace(headers=headers) if name in self._names else None


def test_what_prune_leaves_of_a_deleted_media_is_a_failure() -> None:
    """Its object has to be gone from Swift, unless it has the mark of no homeserver."""
    record = Record()
    for media_id in ("abcdef", "ghijkl", "mnopqr"):
        media = Stored(f"mxc://x/{media_id}", 5, "")
        record.store(media)
        record.forget(media)
        record.delete(media)
    place = Names("local_content/gh/ij/kl", foreign=("local_content/mn/op/qr",))
    assert judge_deleted(place, record) == 2  # type: ignore[arg-type]
    assert record.wrong == ["deleted in Synapse and still in Swift: mxc://x/ghijkl"]


class Silent:
    """A homeserver whose module logs so many lines after SIGHUP."""

    def __init__(self, lines: int) -> None:
        self._lines = iter([7, 7 + lines])

    def hang_up_and_wait(self) -> None:
        pass

    def module_lines(self) -> int:
        return next(self._lines)


@pytest.mark.parametrize("lines", [0, 1])
def test_a_module_that_is_silent_after_sighup_is_a_failure(lines: int) -> None:
    """An operator would not hear of errors any more."""
    record = Record()
    judge_log(Silent(lines), record, lambda: None)  # type: ignore[arg-type]
    assert record.wrong == ["after SIGHUP the module logs nothing"] * (1 - lines)


def test_a_metric_that_is_missing_is_not_0() -> None:
    """What Synapse holds cannot be judged without the gauges."""
    process_ = {"process_open_fds": 9.0, "process_resident_memory_bytes": 1e8}
    gauges = {"synapse_swift_exchanges_in_flight": 2.0, "synapse_swift_exchanges_waiting": 1.0}
    assert held(Told(**process_, **gauges)).slots == 3  # type: ignore[arg-type]
    for gauge in gauges:
        others = {name: value for name, value in gauges.items() if name != gauge}
        with pytest.raises(KeyError, match=gauge):
            held(Told(**process_, **others))  # type: ignore[arg-type]


def test_newer_media_are_chosen_more_often() -> None:
    """A file is asked for while its upload to Swift may still be in flight."""
    record = Record()
    for number in range(100):
        record.store(Stored(str(number), 1, ""))
    random_ = random.Random(1)
    chosen = [record.one(random_) for _ in range(1000)]
    assert sum(int(media.mxc) >= 50 for media in chosen if media is not None) > 600
