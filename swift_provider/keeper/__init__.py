"""What Synapse's module and the process that keeps its disk within a budget share.

The module (:mod:`swift_provider.module`) elects one process for each media store, and
starts a child process for each run. The child (:mod:`swift_provider.offload`) does the work.
Neither imports the other: they share a lock, the messages of a pipe, a file that tells
what the last run did, and marks.
"""

from swift_provider.keeper.limits import LOW_MARK, Space, over_limits, space_to_free
from swift_provider.keeper.lock import FOLDER, KeeperLock, holder_of, lock_path
from swift_provider.keeper.marks import Mark, clear_mark, mark_time, seconds_of, set_mark
from swift_provider.keeper.messages import (
    JUST_WRITTEN,
    BadMessageError,
    Order,
    Report,
    Task,
    Trouble,
)
from swift_provider.keeper.state import (
    OVER_FOR_NOW,
    State,
    load_state,
    remove_leftovers,
    save_state,
    state_path,
)

__all__ = [
    "FOLDER",
    "JUST_WRITTEN",
    "LOW_MARK",
    "OVER_FOR_NOW",
    "BadMessageError",
    "KeeperLock",
    "Mark",
    "Order",
    "Report",
    "Space",
    "State",
    "Task",
    "Trouble",
    "clear_mark",
    "holder_of",
    "load_state",
    "lock_path",
    "mark_time",
    "over_limits",
    "remove_leftovers",
    "save_state",
    "seconds_of",
    "set_mark",
    "space_to_free",
    "state_path",
]
