"""Values of a configuration that contradict each other."""

import pytest

from t5x_style.errors import UserError


@pytest.mark.parametrize("steps", [(0, 2), (3, 2), (1, 5), 3, (1.0, 2)])
def test_steps_that_cannot_be_profiled(steps, tiny_config, tmp_path):
  with pytest.raises(UserError, match=r"PROFILE_STEPS = .*\(10, 12\)"):
    tiny_config("decoder_only", tmp_path, train_steps=4, profile_steps=steps)
