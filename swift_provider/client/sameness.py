"""Finds two places of a configuration that are one place: what is stored in both is one copy.

The addresses do not tell. Two regions of a cloud often call an account by the same name, and one
Swift may have several hosts. But Swift notes when a container was made, to 10 microseconds
(``X-Timestamp`` of the answer to HEAD), so two containers differ in that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from swift_provider.client.place import Place


@dataclass(frozen=True)
class SeenPlace:
    """A place that Swift has answered about.

    :ivar made: what :meth:`.Place.check` returned; empty if this user may not look at the
        container.
    """

    place: Place
    made: str


async def same_place(seen: Sequence[SeenPlace]) -> str | None:
    """Which two of some places lead to the same objects, or may, and what to do about it.

    :returns: for a person; ``None`` if all differ.
    :raises AuthError: if a sign-in, which tells where Swift is, fails.
    """
    for one, other in combinations(seen, 2):
        why = await _why_the_same(one, other)
        if why is not None:
            return (
                f"{one.place.name} and {other.place.name} lead to the same objects: {why}. What "
                "is stored in both would be one copy only. Give one of them another cloud, "
                "region, account, container or prefix, or remove it from mirrors"
            )
    return None


async def _why_the_same(one: SeenPlace, other: SeenPlace) -> str | None:
    if one.place.container != other.place.container:
        return None
    # A prefix is what is put before an empty path, too.
    if one.place.object_name("") != other.place.object_name(""):
        return None
    container = one.place.container
    if one.made and one.made == other.made:
        return f"their containers {container} were made at the same moment ({one.made})"
    urls = [(await each.place.storage_url()).rstrip("/") for each in (one, other)]
    # Where the URL has no account, as Ceph's may, the sign-in chooses it.
    accounts = [url.partition("/v1/")[2] for url in urls]
    if all(accounts) and urls[0] == urls[1]:
        return f"both are the container {container} at {urls[0]}"
    differ = all(accounts) and accounts[0] != accounts[1]
    if differ or (one.made and other.made):
        return None
    return (
        f"their accounts may be the same one ({urls[0]}, {urls[1]}), and Swift does not show when "
        f"their containers {container} were made; allow their users to read the containers"
    )
