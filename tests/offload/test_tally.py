"""The figures at the end of a run."""

from __future__ import annotations

from swift_provider.offload.jobs.upload_tally import UploadTally
from swift_provider.offload.tally import readable


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


def test_readable_sizes() -> None:
    """Sizes are shown in the largest unit that leaves a whole number."""
    assert [readable(n) for n in (0, 1023, 1024, 5 * 1024**3, 2**50)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "5.0 GiB",
        "1024.0 TiB",
    ]
