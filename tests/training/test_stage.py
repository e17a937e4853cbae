"""A stage: which data it reads."""

from t5x_style.training.stage import Stage


def test_only_the_first_stage_has_the_seed_of_the_run():
  seeds = [Stage(number=number).data_seed(seed) for number in (1, 2, 3) for seed in (0, 7)]
  assert seeds[:2] == [0, 7]
  assert len(set(seeds)) == 6
  assert all(0 <= seed < 2**32 for seed in seeds)
  assert Stage("other name", 2, first=5).data_seed(0) == seeds[2]
