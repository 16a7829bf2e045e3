"""A vote as people read it: what is listed is all that was drawn."""

from __future__ import annotations

import pytest

from serve.views import Row, tally


@pytest.mark.parametrize(
    ("counts", "share", "rows"),
    [
        ([], 0.0, []),
        ([["4", 8]], 1.0, [Row("4", 8, 1.0)]),
        (
            [["2", 1], ["3", 1]], 1 / 16,
            [Row("2", 1, 1 / 16), Row("3", 1, 1 / 16), Row("unreadable", 14, 14 / 16, said=False)],
        ),
        (
            [["2", 5], ["3", 1], ["4", 1], ["unreadable", 1]], 5 / 10,
            [
                Row("2", 5, 0.5), Row("3", 1, 0.1), Row("2 more answers", 2, 0.2, said=False),
                Row("unreadable", 2, 0.2, said=False),
            ],
        ),
    ],
)  # fmt: skip
def test_all_of_it(counts, share, rows):
    found = tally({"counts": counts, "share": share}, 2)
    assert found == rows
    assert not rows or sum(row.part for row in found) == pytest.approx(1)
