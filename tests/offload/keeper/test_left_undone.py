"""A job that got to its end may have left its task undone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from swift_provider.keeper import Task
from swift_provider.offload.jobs.prune import DELETED
from swift_provider.offload.keeper.offload import _left_undone
from swift_provider.offload.tally import Tally


class Ended:
    """What is asked of a job."""

    def __init__(self, *, temporary: int = 0, failed: int = 0, deleted: int = 0) -> None:
        self.temporary_failures = temporary
        self.tally = Tally(Counter({DELETED: deleted}), failed=Counter({"busy": failed}))


@pytest.mark.parametrize(
    ("task", "job", "left"),
    [
        (Task.REPAIR, Ended(), None),
        (Task.REPAIR, Ended(failed=2), None),
        (Task.REPAIR, Ended(failed=2, temporary=1), "1 files could not be uploaded yet"),
        (Task.PRUNE, Ended(), None),
        (Task.PRUNE, Ended(failed=1, deleted=3), None),
        (Task.PRUNE, Ended(failed=1), "nothing was pruned, because 1 objects"),
        (Task.KEEP, Ended(failed=1, temporary=1), None),
    ],
)
def test_left_undone(task: Task, job: Any, left: str | None) -> None:
    """What another run may do is tried again soon: uploads that failed for now, and a prune
    that refused because it could not look at everything.
    """
    said = _left_undone(job, task)
    assert said == left or (left is not None and said is not None and said.startswith(left))
