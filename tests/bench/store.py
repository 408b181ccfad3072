"""Media stores shaped like Synapse's, the same at every run."""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path

from tests.offload.synapse_store import SynapseStore

MEDIAN_BYTES = 40_000
#: Of the logarithm; with the median above, the mean is around 60 KB.
SIGMA = 0.9
LARGEST_BYTES = 5_000_000
THUMBNAIL_BYTES = 5_000
#: Of ten media, the first so many came from other servers; each third has a thumbnail.
REMOTE, WITH_THUMBNAIL = 4, 3
_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def fill(store: SynapseStore, files: int, seed: int = 7) -> None:
    """Add media until there are so many files, thumbnails among them."""
    random_ = random.Random(seed)
    made = 0
    number = 0
    while made < files:
        media_id = "".join(random_.choices(_ALPHABET, k=24))
        size = min(LARGEST_BYTES, int(random_.lognormvariate(math.log(MEDIAN_BYTES), SIGMA)))
        content = random_.randbytes(max(1, size))
        origin = "remote.example" if number % 10 < REMOTE else ""
        if origin:
            store.add_remote(origin, f"m{number}", media_id, content)
        else:
            store.add_local(media_id, content)
        made += 1
        if number % WITH_THUMBNAIL == 0 and made < files:
            thumbnail = random_.randbytes(THUMBNAIL_BYTES)
            of = f"m{number}" if origin else media_id
            filesystem_id = media_id if origin else ""
            store.add_thumbnail(of, thumbnail, origin=origin, filesystem_id=filesystem_id)
            made += 1
        number += 1


def md5s(base: Path) -> dict[str, str]:
    """MD5 of every file, by its path below the media store."""
    return {
        str(path.relative_to(base)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(base.rglob("*"))
        if path.is_file()
    }
