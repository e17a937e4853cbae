"""How a decoder reads the inputs of a task: as its training did."""

import types

import pytest

from launch.evaluation import task_outputs

TASK = {"name": "my_task", "rate": 1.0}  # of a run on a SeqIO task of the user's own


@pytest.mark.parametrize(
  ("objectives", "row_lengths", "expected"),
  [
    ([{"objective": "prefix_lm"}], {"targets": 8}, True),
    ([{"objective": "causal_lm"}], {"targets": 8}, False),
    ([{"objective": "causal_lm"}, {"objective": "span_corruption"}], {"targets": 8}, True),
    ([{"objective": "text_to_text", "bidirectional_inputs": True}], {}, True),
    ([{"objective": "text_to_text", "bidirectional_inputs": False}], {}, False),
    ([TASK], {"inputs": 8, "targets": 8}, True),
    ([TASK], {"targets": 8}, False),
    ([], {}, False),
  ],
)
def test_inputs_are_read_both_ways_if_they_were_in_training(objectives, row_lengths, expected):
  trained = types.SimpleNamespace(objectives=objectives, row_lengths=row_lengths)
  assert task_outputs._reads_both_ways(trained) == expected
