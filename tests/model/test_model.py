"""No schedule of jobs, events, errors and lies makes a job lose a file.

``MODEL_SCHEDULES`` is how many schedules to run, ``MODEL_SEED`` the seed of the first.
With ``MODEL_SEED`` alone, one schedule runs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swift_provider.client import Place
from tests.model.lying_store import LyingStore
from tests.model.schedule import failure_of, schedule, shortened

_SEED = os.environ.get("MODEL_SEED")
SCHEDULES = int(os.environ.get("MODEL_SCHEDULES", "1000" if _SEED is None else "1"))
FIRST = int(_SEED or 0)

#: In memory if possible: on a disk the databases' fsync takes most of the time.
_MEMORY = Path("/dev/shm")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where each schedule makes a folder of its own, and removes it."""
    return _MEMORY if os.access(_MEMORY, os.W_OK) else tmp_path


@pytest.mark.timeout(600 + SCHEDULES)
def test_no_job_loses_a_file(folder: Path) -> None:
    """See :mod:`tests.model.judge` for what is judged."""
    for seed in range(FIRST, FIRST + SCHEDULES):
        failed = failure_of(schedule(seed), folder)
        if failed is not None:
            short = shortened(failed, folder)
            pytest.fail(f"MODEL_SEED={seed} fails:\n{failed}\nStill fails:\n{short}", pytrace=False)


def test_the_store_of_the_model_has_what_a_store_has() -> None:
    """The jobs use nothing that the model lacks."""

    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    attributes = {"width", "container"}
    not_for_jobs = {"from_settings", "create", "creates_container", "direct_access"}
    not_for_jobs |= {"new_tries", "observer", "rest_of", "store", "wait_to_retry"}
    not_for_jobs |= {"delete_plain"}  # of check
    assert public(Place) - attributes - not_for_jobs == public(LyingStore)
