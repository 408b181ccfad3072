"""A disk, or memory, that returns a wrong byte of a file once it has returned the right one."""

from __future__ import annotations

#: Python that makes all readings of each file wrong but the first ``RIGHT``. It goes before what
#: it shall be done to.
FAULTY_DISK = """
from collections import Counter
from swift_provider.client import FileSource
bytes_read = Counter()
right = FileSource.read_at
def read_at(self, offset, length):
    data = right(self, offset, length)
    readings = bytes_read[self] // self.size
    bytes_read[self] += length
    return data if offset or readings < RIGHT else bytes([data[0] ^ 1]) + data[1:]
FileSource.read_at = read_at
"""


def faulty_disk(right: int = 1) -> str:
    """The Python code.

    :param right: how many readings of each file are right.
    """
    return FAULTY_DISK.replace("RIGHT", str(right))
