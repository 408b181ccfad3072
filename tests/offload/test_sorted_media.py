"""The work of a run, in order."""

from __future__ import annotations

from contextlib import closing

from swift_provider.offload.cache import Cache
from swift_provider.offload.media_names import Media
from swift_provider.offload.sorted_media import SortedMedia


def test_work_comes_in_the_order_of_names(cache: Cache) -> None:
    """Media are handed out as a listing would name their objects."""
    remote = [("b.org", "1", "zzzzzz"), ("a", "2", "bbbbbb"), ("a.org", "3", "aaaaaa")]
    remote += [("a", "4", "aaaaaa"), ("a-b", "5", "cccccc")]
    cache.replace([("zlocal",), ("alocal",)], remote)
    cache.mark([Media("a", "2", "bbbbbb", "remote")], deleted=True)
    with closing(SortedMedia()) as plan:
        assert plan.read(cache.rows()) == 6
        names = [f"{one.origin}/{one.filesystem_id}" for page in plan.pages(2) for one in page]
    assert names[:2] == ["/alocal", "/zlocal"]
    assert names[2:] == sorted(names[2:])
    assert len(names) == 6


def test_the_media_of_objects(cache: Cache) -> None:
    """An object's kind, origin and filesystem id lead to its media, if it is planned."""
    cache.replace([("abcdef",)], [("a.org", "m", "ghijkl")])
    local, remote = ("local", "", "abcdef"), ("remote", "a.org", "ghijkl")
    unknown = ("remote", "b.org", "ghijkl")
    with closing(SortedMedia()) as plan:
        plan.read(cache.rows())
        assert plan.media_of([local, remote, unknown]) == {
            local: Media("", "abcdef", "abcdef", "local"),
            remote: Media("a.org", "m", "ghijkl", "remote"),
        }
        assert plan.unknown([local, remote, unknown]) == [unknown]
