"""What the runs over Synapse's disk count."""

from __future__ import annotations

from uuid import uuid4

from prometheus_client import REGISTRY

from swift_provider.keeper import Report, Trouble
from swift_provider.module.keeper_metrics import KeeperMetrics


def test_reports_are_cumulative() -> None:
    """Each report of a run counts from its begin; the next run counts from zero again."""
    labels = {"server_name": "here", "container": uuid4().hex}
    metrics = KeeperMetrics(**labels, max_size=1000)

    def sample(name: str, **more: str) -> float | None:
        return REGISTRY.get_sample_value(f"synapse_swift_{name}", {**labels, **more})

    assert sample("local_bytes") is None, "only the process that does the work has samples"
    metrics.begun()
    assert sample("local_limit_bytes") == 1000
    for scale in (1, 3):
        metrics.reported(
            Report(
                removed=scale,
                freed=10 * scale,
                uploaded=100 * scale,
                pruned=1000 * scale,
                seconds=0.5 * scale,
                failed={"differs": scale},
                on_disk=900 - scale,
                files=90 - scale,
            )
        )
    metrics.begun()
    report = Report(
        final=True, removed=1, failed={"differs": 1, "changed": 1}, troubles={Trouble.SWIFT: "x"}
    )
    metrics.reported(report)
    assert sample("local_bytes") == 897
    assert sample("local_files") == 87
    assert sample("local_freed_bytes_total") == 30
    assert sample("local_removed_files_total") == 4
    assert sample("local_repaired_uploads_total") == 300
    assert sample("pruned_objects_total") == 3000
    assert sample("local_run_seconds_total") == 1.5
    assert sample("local_failures_total", reason="differs") == 4
    assert sample("local_failures_total", reason="changed") == 1
    assert sample("local_failures_total", reason="swift") == 1
    assert sample("local_last_success_timestamp_seconds") is None
    metrics.keeps(3.0)
    assert sample("local_last_success_timestamp_seconds") == 3
    metrics.succeeded(5.0)
    assert sample("local_last_success_timestamp_seconds") == 5
    for _ in range(2):
        metrics.lost()
    for name in ("bytes", "files", "limit_bytes", "last_success_timestamp_seconds"):
        assert sample(f"local_{name}") is None
    assert sample("local_removed_files_total") == 4
