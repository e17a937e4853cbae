"""Which written tokens belong into which hole. 99 and 98 are sentinels 0 and 1, 1 is EOS."""

import pytest

from t5x_style.inference.written_holes import spans_after_sentinels, spans_between_parts

SENTINELS = [99, 98, 97, 96]


@pytest.mark.parametrize(
  ("written", "count", "filled"),
  [
    ([99, 5, 6, 98, 7, 1], 2, {0: [5, 6], 1: [7]}),
    ([99, 5, 6, 98, 7, 97, 8, 1], 2, {0: [5, 6], 1: [7]}),  # One more than there are holes.
    ([99, 5, 98, 1, 98, 7], 2, {0: [5], 1: []}),  # Nothing counts after EOS.
    ([98, 7, 99, 5, 1], 2, {0: [5], 1: [7]}),
    ([99, 5, 99, 6, 1], 2, {0: [5]}),
    ([99, 5, 6], 2, {0: [5, 6]}),  # Cut off.
    ([5, 6, 1], 2, {}),
    ([], 1, {}),
  ],
)
def test_spans_after_sentinels(written, count, filled):
  found = spans_after_sentinels(written, SENTINELS, 1, count)
  assert {hole: written[start:stop] for hole, (start, stop) in found.items()} == filled


@pytest.mark.parametrize(
  ("written", "parts", "filled"),
  [
    ([5, 6, 7, 8, 1], [[7, 8]], [[5, 6]]),
    ([5, 6, 7, 8, 9, 1], [[7, 8], []], [[5, 6], [9]]),
    ([7, 8, 1], [[7, 8]], [[]]),
    ([5, 7, 6, 7, 1], [[7]], [[5, 7, 6]]),  # The last part is the end of the text.
    ([5, 7, 6, 7, 9, 1], [[7], [9]], [[5], [6, 7]]),
    ([5, 6, 7, 1], [[7, 8]], []),  # It does not repeat the text.
    ([5, 7, 6, 6, 1], [[7], [8]], [[5]]),
    ([5, 6, 7, 8], [[7, 8]], [[5, 6]]),  # Without EOS.
    ([5, 6], [[]], [[5, 6]]),
  ],
)
def test_spans_between_parts(written, parts, filled):
  assert [written[a:b] for a, b in spans_between_parts(written, parts, 1)] == filled
