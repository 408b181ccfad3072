"""``python runner.py RESULT COMMAND…``: runs a command, writes what it used as JSON.

A process of its own, and a small one: a child's peak memory as the kernel
counts it begins with that of the process which forked it.
"""

import json
import os
import sys
import time


def main() -> None:
    result, *command = sys.argv[1:]
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.execvp(command[0], command)
    _, status, usage = os.wait4(pid, 0)
    used = {
        "wall": time.monotonic() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,
        "status": os.waitstatus_to_exitcode(status),
    }
    with open(result, "w", encoding="utf-8") as out:
        json.dump(used, out)


if __name__ == "__main__":
    main()
