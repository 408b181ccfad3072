"""What a real Synapse feels of the process that keeps its disk within a budget."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.bench.houses import HOT, House
from tests.bench.kept_store import AGES, KeptStore
from tests.bench.measure import CandidateError
from tests.bench.results import OURS, Comparison, Metric, Run, Say, Target, alternate
from tests.bench.services import CLOUD
from tests.servers import process
from tests.servers.postgres import Postgres
from tests.servers.synapse import Synapse, running

NO_RUN = "no run"
MEANWHILE = "a trivial request"


def meanwhile(
    store: KeptStore, postgres: Postgres, folder: Path, seconds: int, rounds: int, say: Say
) -> Comparison:
    """A trivial request, with and without a run that works."""
    comparison = Comparison(
        "Synapse while a run works",
        f"A real Synapse starts one run after the other, which look at {store.size.small:,} files "
        f"and {store.size.rows:,} rows of the same PostgreSQL server as Synapse's and find nothing "
        f"that is old enough; and it does not, for {seconds} s each. The request is one for "
        "/_matrix/client/versions, every 20 ms; “late” is a timer of 5 ms inside Synapse.",
        [
            Metric("p50", "request p50 ms"),
            Metric("p99", "p99 ms"),
            Metric("late_p50", "reactor late p50 ms"),
            Metric("late_p99", "p99 ms"),
            Metric("late_max", "max ms"),
            Metric("runs", "runs begun", more_is_better=True),
        ],
        [
            Target("a run works: request p99, of that without", MEANWHILE, "p99", NO_RUN, 1.1),
            Target("a run works: reactor late p99, likewise", MEANWHILE, "late_p99", NO_RUN, 1.1),
        ],
        digest=[(MEANWHILE, key) for key in ("p99", "late_p99")],
    )
    order = folder / "order.json"
    order.touch(0o600)
    order.write_bytes(store.order(older_than=AGES))
    say("  starting Synapse")
    with running(_synapse(store, postgres, folder, order)) as synapse:
        house = House(HOT, synapse)
        candidates: dict[str, Run] = {
            OURS: _trivial(house, synapse, seconds, with_runs=True),
            NO_RUN: _trivial(house, synapse, seconds, with_runs=False),
        }
        return alternate(comparison, candidates, rounds, say)


def _synapse(store: KeptStore, postgres: Postgres, folder: Path, order: Path) -> Synapse:
    provider = {
        "module": "swift_provider.SwiftStorageProviderBackend",
        "store_local": True,
        "config": {"cloud": CLOUD, "container": store.container.name},
    }
    modules = [
        {"module": "tests.bench.inside.Inside", "config": {}},
        {"module": "tests.bench.runs_inside.RunsInside", "config": {"order": str(order)}},
    ]
    return Synapse(
        folder / "synapse",
        database=postgres.create_database("synapse"),
        media_storage_providers=[provider],
        config={"modules": modules},
        env={"OS_CLIENT_CONFIG_FILE": str(store.cluster.clouds_yaml)},
    )


def _trivial(house: House, synapse: Synapse, seconds: int, *, with_runs: bool) -> Run:
    def once(turn: int) -> Mapping[str, Mapping[str, float]]:
        runs_inside = working(synapse) if with_runs else contextlib.nullcontext({})
        with runs_inside as told:
            seen, inside = house.measure("trivial", seconds=seconds)
        probe = sorted(seen["probe"])
        sample = {key: inside[key] for key in ("late_p50", "late_p99", "late_max")}
        sample["p50"] = 1000 * probe[len(probe) // 2]
        sample["p99"] = 1000 * probe[int(len(probe) * 0.99)]
        if with_runs:
            sample["runs"] = told["runs"]
        return {MEANWHILE: sample}

    return once


@contextlib.contextmanager
def working(synapse: Synapse) -> Iterator[dict[str, Any]]:
    """Let Synapse start one run after the other until the end of the block.

    :returns: ``runs``, how many it began; known at the end of the block.
    :raises CandidateError: if one of them ended badly.
    """
    told: dict[str, Any] = {}
    with process.local_session() as http:

        def ask(what: str) -> dict[str, Any]:
            answer = http.get(f"{synapse.url}/_bench_runs/{what}", timeout=60)
            answer.raise_for_status()
            said: dict[str, Any] = answer.json()
            return said

        ask("begin")
        try:
            yield told
        finally:
            told.update(ask("end"))
        while ask("running")["running"]:
            time.sleep(process.POLL_SECONDS)
    if told["bad"]:
        raise CandidateError(f"a run ended badly: {told['bad']}")
