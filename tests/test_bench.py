"""The harness of ``scripts/bench``: turns, medians, what counts, and the tables."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
import requests

from tests.bench import beside_runs, drawings, keeping, report, rows
from tests.bench.drivers.job import Job
from tests.bench.kept_store import KeptStore, Size
from tests.bench.measure import CandidateError, run
from tests.bench.results import OURS, Comparison, Metric, Target, alternate, order
from tests.bench.services import Cluster, Container
from tests.servers import process
from tests.servers.keystone import Credentials, Keystone
from tests.servers.postgres import Postgres
from tests.servers.swift import Swift


def quiet(text: str) -> None:
    """Nobody waits."""


@pytest.fixture
def comparison() -> Comparison:
    """One metric, one case and a target."""
    return Comparison(
        "A title",
        "What was done.",
        [Metric("wall", "wall s")],
        [Target("half of theirs", "case", "wall", "theirs", at_most=0.5)],
    )


def test_each_round_begins_with_another_candidate() -> None:
    """What disturbs the beginning of a round disturbs each candidate as often."""
    assert [order("abc", turn) for turn in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_candidates_take_turns(comparison: Comparison) -> None:
    """No candidate has its rounds one after the other."""
    seen = []

    def candidate(name):
        def once(turn):
            seen.append((turn, name))
            return {"case": {"wall": 1.0}}

        return once

    alternate(comparison, {"a": candidate("a"), "b": candidate("b")}, 2, quiet)
    assert seen == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]


def test_a_target_compares_medians(comparison: Comparison) -> None:
    """One slow round of either decides nothing."""
    for value in (1.0, 2.0, 90.0):
        comparison.add("case", OURS, {"wall": value})
    for value in (5.0, 0.1, 4.0):
        comparison.add("case", "theirs", {"wall": value})
    (target,) = comparison.targets
    assert comparison.judged(target) == 0.5
    assert target.reached(0.5)
    assert not target.reached(0.51)


def test_a_candidate_that_fails_once_does_not_count(comparison: Comparison) -> None:
    """Neither its earlier rounds nor a later one is in the table, but its failure is."""

    def fails(turn):
        if turn == 1:
            raise CandidateError("3 objects differ from their files")
        return {"case": {"wall": 0.001}}

    alternate(comparison, {"theirs": fails, OURS: lambda turn: {"case": {"wall": 1.0}}}, 3, quiet)
    text = report.section(comparison)
    assert list(comparison.samples["case"]) == [OURS]
    assert "*theirs* does not count: 3 objects differ" in text
    assert "not measured" in text


def test_a_missing_peer_is_named_with_the_remedy(comparison: Comparison) -> None:
    """It is in the report and in the raw numbers, not just absent."""
    comparison.missing["rclone"] = "apt-get update && apt-get install rclone"
    assert "*rclone* is missing: apt-get update && apt-get install rclone" in report.section(
        comparison
    )
    assert comparison.as_mapping()["missing"] == comparison.missing


def test_a_table_keeps_to_its_columns() -> None:
    """reStructuredText wants each cell below its part of the rule, the last one excepted."""
    rule, *lines = report.table(
        ["case", "ours"], [["PUT c=40", "1"], ["GET", "12 (1 to 13)"]]
    ).split("\n")
    assert rule == "========  ============"
    assert lines == ["case      ours", rule, "PUT c=40  1", "GET       12 (1 to 13)", rule]


def test_the_report_has_all_numbers(comparison: Comparison, tmp_path: Path) -> None:
    """Median and spread are in the table, each round is in the JSON."""
    for value in (1.0, 3.0, 2.0):
        comparison.add("case", OURS, {"wall": value})
    path = report.write(tmp_path, {"cores": "2"}, {"Twisted": "1"}, [comparison])
    assert "2.00 (1.00 to 3.00)" in path.read_text()
    raw = json.loads((tmp_path / "results.json").read_text())
    assert raw["comparisons"][0]["samples"]["case"][OURS]["wall"] == [1.0, 3.0, 2.0]


def test_the_digest_has_a_column_for_each_candidate(comparison: Comparison) -> None:
    """One line for each figure that was chosen, and a dash for who has none."""
    comparison.add("case", OURS, {"wall": 1.5})
    comparison.add("other", "theirs", {"wall": 25.0})
    comparison.digest = [("case", "wall"), ("other", "wall")]
    assert report.digest(comparison).splitlines() == [
        "**A title**",
        "",
        "=============  ====  ======",
        "..             ours  theirs",
        "=============  ====  ======",
        "case: wall s   1.50  –",
        "other: wall s  –     25.0",
        "=============  ====  ======",
    ]


def test_what_a_child_used_is_its_own(tmp_path: Path) -> None:
    """CPU of the child's children counts, memory of ours does not."""
    ballast = bytearray(os.urandom(1)) * 200_000_000  # ours, and not to be seen below
    burn = "import os\nif os.fork():\n os.wait()\nelse:\n sum(range(12_000_000))"
    used = run([sys.executable, "-c", burn], tmp_path)
    assert used.cpu > 0.1
    assert used.peak_mb < len(ballast) / 2_000_000
    assert used.wall >= 0.1


def test_a_failing_child_shows_what_it_said(tmp_path: Path) -> None:
    """A peer's message is in the report."""
    with pytest.raises(CandidateError, match="no such bucket"):
        run([sys.executable, "-c", "import sys; sys.exit('no such bucket')"], tmp_path)


def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    """A peer that never ends does not stop the others."""
    with pytest.raises(CandidateError, match="longer than"):
        run([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path, timeout=0.5)


def test_a_child_keeps_its_input(tmp_path: Path) -> None:
    """The process that keeps the disk ends at once when its input is closed."""
    reads = "import os, select; print(os.read(0, 100)); print(select.select([0], [], [], 0.5)[0])"
    used = run([sys.executable, "-c", reads], tmp_path, stdin=b"an order\n")
    assert used.output == "b'an order\\n'\n[]\n"


def test_objects_are_compared_with_their_files(
    keystone: Keystone, account: Credentials, swift: Swift, tmp_path: Path
) -> None:
    """A missing, a strange and a changed object each void a candidate's result."""
    cluster = Cluster(tmp_path, keystone, account, swift, tmp_path / "clouds.yaml")
    container = cluster.container("bench-check")
    contents = {"a/b": b"one", "c": b"two"}
    wanted = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    for name, content in contents.items():
        _put(cluster, container, name, content)
    container.check(wanted)
    _put(cluster, container, "c", b"2wo")
    with pytest.raises(CandidateError, match="1 objects differ from their files: c"):
        container.check(wanted)
    container.delete(["c"])
    with pytest.raises(CandidateError, match="1 objects missing, 0 too many: c"):
        container.check(wanted)


def _put(cluster: Cluster, container: Container, name: str, content: bytes) -> None:
    headers = {"X-Auth-Token": cluster.keystone.token(cluster.account)}
    with process.local_session() as http:
        http.put(f"{container.url}/{name}", data=content, headers=headers).raise_for_status()


def test_our_driver_does_its_job(
    keystone: Keystone, account: Credentials, swift: Swift, clouds_yaml, tmp_path: Path
) -> None:
    """The program that measures our client puts, gets and looks, and counts no more than that."""
    cluster = Cluster(tmp_path, keystone, account, swift, tmp_path)
    container = cluster.container("bench-driver")
    content = os.urandom(70_000)
    md5 = hashlib.md5(content).hexdigest()
    name = f"{md5}-0"
    (tmp_path / name).write_bytes(content)
    clouds = clouds_yaml(cloud="stub")
    where = container.url.removesuffix(f"/{container.name}")
    for operation in ("PUT", "GET", "HEAD"):
        job = Job(
            operation, where, container.name, [name], str(tmp_path), {md5: len(content)}, 4, 1
        )
        (tmp_path / "job.json").write_text(json.dumps(vars(job)))
        env = {"PYTHONPATH": str(process.ROOT), "OS_CLIENT_CONFIG_FILE": str(clouds)}
        command = [sys.executable, "-m", "tests.bench.drivers.our_objects", tmp_path / "job.json"]
        told = json.loads(run(command, tmp_path, env).output.splitlines()[-1])
        assert told["count"] == 1
    container.check({name: md5})


def test_the_relay_is_as_slow_as_it_is_told(swift: Swift, tmp_path: Path) -> None:
    """Each answer over a kept connection takes a round trip more."""
    port = process.free_port()
    target = str(urlsplit(swift.url).port)
    command = [sys.executable, "-m", "tests.bench.relay", str(port), target, "0.2"]
    child = process.Process("relay", command, tmp_path, env={"PYTHONPATH": str(process.ROOT)})
    with process.stopping(child), process.local_session() as http:
        child.wait_for_port(port)
        url = f"http://{process.LOOPBACK}:{port}/healthcheck"
        http.get(url, timeout=30)
        answer: requests.Response = http.get(url, timeout=30)
    assert answer.text == "OK"
    assert answer.elapsed.total_seconds() >= 0.2


def test_names_of_rows(postgres: Postgres) -> None:
    """Files are written under the names that PostgreSQL makes."""
    arguments = rows.database_with_rows(postgres, "bench_rows", 10, 1000)
    connection = psycopg2.connect(**arguments)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT media_id FROM local_media_repository")
        assert {row[0] for row in cursor} == set(map(rows.media_id, range(1, 5)))
        cursor.execute("SELECT media_origin, filesystem_id FROM remote_media_cache")
        wanted = {(rows.origin(number), rows.media_id(number)) for number in range(1, 7)}
        assert set(cursor) == wanted
    connection.close()


def test_runs_that_keep_the_disk(
    keystone: Keystone,
    account: Credentials,
    swift: Swift,
    clouds_yaml,
    postgres: Postgres,
    tmp_path: Path,
) -> None:
    """Ours and the script's remove the same files, Synapse starts runs, and all is measured."""
    cluster = Cluster(tmp_path, keystone, account, swift, clouds_yaml())
    store = KeptStore(tmp_path, cluster, postgres, Size(200, 20, 5))
    assert store.is_left() == (20, 5)
    costs = keeping.runs(store, tmp_path, 1, quiet)
    assert costs.failed == {}
    assert all(costs.judged(target) for target in costs.targets)
    feels = beside_runs.meanwhile(store, postgres, tmp_path, 1, 1, quiet)
    assert feels.failed == {}
    assert feels.median(beside_runs.MEANWHILE, OURS, "runs")
    assert all(feels.judged(target) for target in feels.targets)
    assert store.is_left() == (20, 0)


def test_the_plan_of_a_run(tmp_path: Path) -> None:
    """All media are found again, by both orders."""
    comparison = keeping.plans((1000,), tmp_path, quiet)
    assert comparison.failed == {}
    assert comparison.median("1,000 media", OURS, "peak")


def test_the_plots_show_the_stored_figures(tmp_path: Path) -> None:
    """The committed plots are those of the committed figures, which the tables have, too."""
    drawings.main(tmp_path)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert len(drawn) == 3
    assert drawn == {path.name: path.read_text() for path in drawings.HERE.glob("*.svg")}
    table = (drawings.HERE / "RESULTS.rst").read_text()
    for name in drawn:
        assert f".. image:: {name}\n" in table
    samples = json.loads((drawings.HERE / "results.json").read_text())["samples"]
    medians = [sorted(values["rate"])[1] for values in samples["5 KB again c=40"].values()]
    row = "5 KB again c=40: requests/s +" + " +".join(map(report.number, medians))
    assert re.search(row, table)
