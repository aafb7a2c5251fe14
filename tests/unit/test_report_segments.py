"""Segments in the report: where they begin."""

import pytest

from openrlhf_ktae.report.groups import segment_starts


@pytest.mark.parametrize(
    ("numbers", "starts"),
    [
        ([0, 0, 1, 1, 2], [2, 4]),
        ([0, 0, -1, -1, 1, -1], [4]),  # a turn, what a tool said, a turn
        ([-1, 0, 0], []),
        ([0, -1, 0], []),
        ([None, None], []),
        ([], []),
    ],
)
def test_a_segment_starts_where_its_number_is_new(numbers, starts):
    assert segment_starts(numbers) == starts
