"""Which side of a model predicts."""

import pytest

from t5x_style.architectures import ARCHITECTURES, predicted_side
from tests import tiny


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_side_that_predicts_has_targets_in_a_batch(architecture, tmp_path):
  config = tiny.config(architecture, tmp_path)
  assert config.model.architecture == architecture
  batch = next(config.dataset(architecture, 8, 0, 0, 1).train())
  assert [name for name in batch if name.endswith("_target_tokens")] == [
    f"{predicted_side(architecture)}_target_tokens"
  ]
