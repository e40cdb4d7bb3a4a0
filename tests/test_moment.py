"""Moments as people write them."""

from __future__ import annotations

import pytest

from xlmr.moment import microseconds_of, read_moment


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2024-03-05", 1_709_596_800),
        ("2024-03-05T14:30Z", 1_709_649_000),
        ("2024-03-05T14:30", 1_709_649_000),
        ("2024-03-05T15:30:00+01:00", 1_709_649_000),
    ],
)
def test_a_moment_is_utc_where_it_does_not_say(said: str, seconds: int) -> None:
    assert microseconds_of(read_moment(said)) == seconds * 10**6


@pytest.mark.parametrize("said", ["", "noon", "2024-13-01"])
def test_what_is_none_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month"):
        read_moment(said)
