"""The table of a run's parameters; tests/launch/test_train.py reads the rest of what a run says."""

from t5x_style.reporting import run_description
from t5x_style.training import setup
from tests import tiny


def test_columns_are_aligned_also_below_long_names(tmp_path):
  """Layers of two kinds are scanned as blocks, which makes names long."""
  model = {"qk_norm": True, "num_decoder_layers": 4, "attention_windows": (None, 4)}
  prepared = setup.prepare(tiny.config("decoder_only", tmp_path, model=model))
  table = run_description.model_info(prepared).split("\n\n")[0].splitlines()
  starts = [table[0].index(title) for title in ("shape", "logical axes", "partition")]
  assert any(len(line.split()[0]) > 52 for line in table)
  for line in table:
    for start in starts:
      assert line[start - 1] == " " != line[start], line
