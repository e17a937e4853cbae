"""Figures are those of the run's own records, up to the step that is judged."""

import json

from launch.comparison import run_figures

MASKED = [{"objective": "masked_lm", "mask_rate": 0.15}]
INFO = """\
encoder/parameters, bytes of a layer    32   embed   replicated

parameters                   5,278,976
parameters, bytes           21,115,904  (21,115,904 a device)
optimizer, bytes            42,231,816  (42,231,816 a device)
FLOPs of a step              3.165e+10  (3 x forward matrix products)
"""


def test_they_are_read_from_metrics_and_model_info(tmp_path):
  records = [
    *({"step": s, "split": "train", "tokens_per_second": 100.0 * s} for s in (1, 2, 3, 4)),
    {"step": 2, "split": "validation", "accuracy": 0.2},
    {"step": 4, "split": "validation", "accuracy": 0.4},
  ]
  lines = [json.dumps(x) for x in records]
  (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 5, "spl']))
  (tmp_path / "model-info.txt").write_text(INFO)
  found = run_figures.measured(tmp_path, 3, MASKED)
  values = {name: each.value for name, each in found.items()}
  assert values == {
    "masked_accuracy": 0.2,
    "tokens_per_second": 200.0,
    "flops": 3 * 3.165e10,
    "memory": 21_115_904 + 42_231_816,
  }
  assert "15 %" in found["masked_accuracy"].method
  assert run_figures.measured(tmp_path, 4, MASKED)["masked_accuracy"].value == 0.4


def test_what_is_missing_has_a_reason(tmp_path):
  found = run_figures.measured(tmp_path, 3, MASKED)
  assert all(each.value is None and each.reason for each in found.values())
  (tmp_path / "config.gin").write_text("")
  found = run_figures.measured(tmp_path, 3, MASKED)
  assert all(each.value is None and each.reason for each in found.values())
  spans = run_figures.measured(tmp_path, 3, [{"objective": "span_corruption"}])
  assert spans["masked_accuracy"].reason == "span_corruption masks no single tokens"
