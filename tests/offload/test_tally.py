"""The figures at the end of a run."""

from __future__ import annotations

from collections import Counter

from swift_provider.offload.jobs.prune_each import EachTally
from swift_provider.offload.jobs.upload_tally import UploadTally
from swift_provider.offload.tally import Tally, tells


def test_summary_for_people() -> None:
    """The closing lines tell figures and reasons, and in a dry run what would have been."""
    summary = UploadTally(dry_run=True, media=2, found=3, uploaded=1, uploaded_bytes=2048)
    summary.skipped["a reason"] = 4
    summary.failed["another"] = 5
    lines = summary.lines()
    assert "Would have uploaded: 1 (2.0 KiB)" in lines
    assert "Skipped: 4: a reason" in lines
    assert "Failed: 5: another" in lines
    assert not any(line.startswith("Stopped") for line in lines)


def test_prune_of_several_places_in_one_line() -> None:
    """Each figure has the name of its place."""
    parts = {"a1": Tally(Counter({"Objects": 5, "Segments": 0})), "b": Tally()}
    tally = EachTally(parts=parts)
    tally.refused["b"] = "the database has no media"
    assert tally.lines(alone=True) == ["a1: Objects: 5", "b: Refused: the database has no media"]
    assert tally.lines()[:2] == ["a1:", "  Objects: 5"]


def test_what_a_line_tells() -> None:
    """A reason in words stays; zeros are left out where one line tells all."""
    assert tells("Refused: the database has no media")
    assert tells("Uploaded: 10")
    assert not tells("Deleted: 0 (0 bytes)")


def test_zeros_are_left_out_where_there_are_main_figures() -> None:
    """People see the main figures and what is not 0; JSON has all."""
    summary = Tally(main=frozenset(["Listed"]))
    summary.counts.update({"Listed": 0, "Left alone": 0, "Unmarked": 3})
    assert summary.lines() == ["Listed: 0", "Unmarked: 3", "Time: 0.0 s"]
    assert summary.as_mapping()["left_alone"] == 0
    summary.main = None
    assert "Left alone: 0" in summary.lines()


def test_bytes_have_a_unit_for_people() -> None:
    """JSON has the bytes."""
    summary = Tally()
    summary.counts["Downloaded bytes"] = 22537780
    assert summary.lines()[0] == "Downloaded: 21.5 MiB"
    assert summary.as_mapping()["downloaded_bytes"] == 22537780


def test_a_place_that_was_not_reached_has_no_figures() -> None:
    """Only the reason is told, without the place's name again."""
    down, works = Tally(stopped="b: no answer"), Tally()
    for part in (down, works):
        part.counts["Listed"] = 0
    summary = EachTally(parts={"a": works, "b": down}, unreached={"b"})
    assert summary.lines() == ["a:", "  Listed: 0", "  Time: 0.0 s", "b: no answer"]
