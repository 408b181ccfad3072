"""The metrics and the alert rules in the manual exist, and the rules fire when they should."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from tests.test_readme import PAGES, blocks

#: Every metric has these; those of the requests also have the place that they went to.
USUAL = {"server_name", "container", "member"}
PAGE = PAGES["metrics.rst"]
(RULES,) = blocks(PAGE, r"\.\. code-block:: yaml")
SWIFT = 'server_name="example.org", container="media"'


def labels_of(metric: str) -> set[str]:
    """The labels of a metric in the registry.

    :raises KeyError: if there is none of this name.
    """
    for module in ("metrics", "keeper_metrics"):
        importlib.import_module(f"swift_provider.module.{module}")
    return set(REGISTRY._names_to_collectors[metric]._labelnames)  # type: ignore[attr-defined]


def test_the_tables_have_every_metric() -> None:
    """Each metric has a row, and it names the labels that only this metric has."""
    rows = re.findall(r"^``(synapse_swift_\w+)``((?: .*\n)(?:   .*\n)*)", PAGE, re.MULTILINE)
    every = set().union(*(labels_of(metric) for metric, _ in rows))
    for metric, text in rows:
        named = set(re.findall(r"``(\w+)``", text)) & every
        assert labels_of(metric) - USUAL == named - USUAL, metric
    ours = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for metric in REGISTRY.collect()
        if metric.name.startswith("synapse_swift_")
    }
    assert ours == {metric for metric, _ in rows}


def test_the_metrics_in_the_rules_exist() -> None:
    """A rule about a metric that nobody exports would never fire."""
    selectors = re.findall(r"(synapse_swift_\w+)(?:\{(.*?)\})?", RULES)
    assert selectors
    for metric, conditions in selectors:
        assert set(re.findall(r"(\w+)\s*[=!]", conditions)) <= labels_of(metric), metric


def promtool() -> str:
    """The program; the test is skipped without it."""
    found = shutil.which("promtool") or shutil.which("promtool", path=sysconfig.get_path("scripts"))
    if found is None:
        pytest.skip("promtool is missing; Debian has it in the package prometheus")
    return found


def series(metric: str, values: str, labels: str = "") -> dict[str, str]:
    """A sample a minute, in promtool's notation."""
    labels = ", ".join(part for part in (SWIFT, labels) if part)
    return {"series": f"{metric}{{{labels}}}", "values": values}


#: For each alert what there is, and whether it fires after two and a half hours.
CASES = [
    pytest.param(
        "SwiftUploadsFail",
        [
            series("synapse_swift_requests_total", "0+9x150", 'method="PUT", status="201"'),
            series("synapse_swift_requests_total", "0+3x150", 'method="PUT", status="503"'),
            series("synapse_swift_requests_total", "0+90x150", 'method="PUT", status="412"'),
            series("synapse_swift_requests_total", "0+90x150", 'method="GET", status="none"'),
            series("synapse_swift_sign_ins_total", "0+1x150", 'result="issued"'),
            series("synapse_swift_uploads_dropped_total", "7+0x150"),
        ],
        False,
        id="some PUTs are retried",
    ),
    pytest.param(
        "SwiftUploadsFail",
        [series("synapse_swift_requests_total", "0+3x150", 'method="PUT", status="none"')],
        True,
        id="no PUT is answered",
    ),
    pytest.param(
        "SwiftUploadsFail",
        [series("synapse_swift_sign_ins_total", "0+1x150", 'result="AuthError"')],
        True,
        id="no token",
    ),
    pytest.param(
        "SwiftUploadsFail",
        [
            series("synapse_swift_sign_ins_total", "0x138 2x12", 'result="AuthError"'),
            series("synapse_swift_sign_ins_total", "7x139 8x11", 'result="issued"'),
        ],
        False,
        id="two sign-ins failed, and the next did not",
    ),
    pytest.param(
        "SwiftUploadsFail",
        [
            series("synapse_swift_sign_ins_total", "0x138 1x12", 'result="AuthError"'),
            series("synapse_swift_sign_ins_total", "7x150", 'result="issued"'),
        ],
        True,
        id="the only sign-in of a quiet hour failed",
    ),
    pytest.param(
        "SwiftUploadsFail",
        [series("synapse_swift_uploads_dropped_total", "0x138 1x12")],
        True,
        id="an upload was dropped",
    ),
    pytest.param(
        "SwiftUploadsFail",
        [series("synapse_swift_uploads_dropped_total", "0+2x150")],
        True,
        id="too many uploads wait",
    ),
    pytest.param(
        "SwiftDiskOverBudget",
        [
            series("synapse_swift_local_bytes", "120x20 90x130"),
            series("synapse_swift_local_limit_bytes", "100x150"),
            series("synapse_swift_local_last_success_timestamp_seconds", "0x60 3600x90"),
        ],
        False,
        id="over for a while",
    ),
    pytest.param(
        "SwiftDiskOverBudget",
        [
            series("synapse_swift_local_bytes", "90x20 120x130"),
            series("synapse_swift_local_limit_bytes", "100x150"),
        ],
        True,
        id="over for two hours",
    ),
    pytest.param(
        "SwiftDiskOverBudget",
        [
            series("synapse_swift_local_last_success_timestamp_seconds", "-7200x150"),
            series("synapse_swift_local_failures_total", "0+1x150", 'reason="database"'),
        ],
        True,
        id="without max_size",
    ),
    pytest.param(
        "SwiftDiskOverBudget",
        [
            series("synapse_swift_local_last_success_timestamp_seconds", "-7200x150"),
            series("synapse_swift_local_failures_total", "_x20 1+1x130", 'reason="hangs"'),
        ],
        True,
        id="the disk hangs",
    ),
    pytest.param(
        "SwiftDiskOverBudget",
        [
            series("synapse_swift_local_last_success_timestamp_seconds", "-7200x150"),
            series("synapse_swift_local_failures_total", "0+1x150", 'reason="busy"'),
        ],
        False,
        id="a long run of the script",
    ),
    pytest.param(
        "SwiftDiskOverBudget",
        [
            series("synapse_swift_local_last_success_timestamp_seconds", "-7200x150"),
            series("synapse_swift_local_failures_total", "3x150", 'reason="swift"'),
        ],
        False,
        id="passes are rare, because they take long",
    ),
    pytest.param(
        "SwiftMirrorBehind",
        [
            series("synapse_swift_member_up", "1x50 0x20 1x80", 'member="gra"'),
            series("synapse_swift_member_debts", "0x50 9x25 0x75", 'member="gra"'),
        ],
        False,
        id="a short outage",
    ),
    pytest.param(
        "SwiftMirrorBehind",
        [series("synapse_swift_member_up", "1x50 0x100", 'member="gra"')],
        True,
        id="an outage",
    ),
    pytest.param(
        "SwiftMirrorBehind",
        [series("synapse_swift_member_debts", "0x50 2x100", 'member="gra"')],
        True,
        id="debts stay",
    ),
]


@pytest.mark.parametrize(("alert", "samples", "fires"), CASES)
def test_an_alert_fires_when_it_should(
    alert: str, samples: list[dict[str, str]], fires: bool, tmp_path: Path
) -> None:
    """Prometheus itself takes the rules, and judges samples by them."""
    labels: dict[str, str] = {"server_name": "example.org", "container": "media"}
    if alert == "SwiftMirrorBehind":
        labels["member"] = "gra"
    rules = {rule["alert"]: rule for rule in yaml.safe_load(RULES)["groups"][0]["rules"]}
    summary = rules[alert]["annotations"]["summary"]
    for name, value in labels.items():
        summary = summary.replace(f"{{{{ $labels.{name} }}}}", value)
    fired = {"exp_labels": labels, "exp_annotations": {"summary": summary}}
    (tmp_path / "rules.yml").write_text(RULES)
    test: dict[str, Any] = {
        "rule_files": ["rules.yml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": samples,
                "alert_rule_test": [
                    {
                        "eval_time": "150m",
                        "alertname": alert,
                        "exp_alerts": [fired] if fires else [],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    for command, file in (("check", "rules.yml"), ("test", "test.yml")):
        done = subprocess.run(
            [promtool(), command, "rules", file],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
