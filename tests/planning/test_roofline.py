"""Rooflines and seconds of collectives, computed by hand."""

import pytest

from t5x_style.planning import topologies
from t5x_style.planning.collectives import Collective
from t5x_style.planning.roofline import collective_seconds, roofline


def collective(kind, group, axes, network="ici", size=16_000_000, times=3):
  return Collective(kind, network, (), size, group, axes, times, True, "")


def test_seconds_of_a_collective():
  """16 MB three times among 16 chips: 45 MB leave each chip, over links of 45 GB/s each way."""
  wide, small = topologies.parse("v5e:16x16"), topologies.parse("v5e:4x4")
  wire = 3 * 16e6 * 15 / 16
  assert collective("all-gather", 16, (0,)).wire_bytes == wire
  # The 16 chips of an axis of 16 are a ring; those of a 4 x 4 slice are lines of 4 along two axes.
  assert collective_seconds(collective("all-gather", 16, (0,)), wide) == wire / 9e10
  assert collective_seconds(collective("all-gather", 16, (0, 1)), small) == wire / 9e10
  assert collective_seconds(collective("all-gather", 4, (0,)), small) == 36e6 / 4.5e10
  assert collective_seconds(collective("all-reduce", 16, (0,)), wide) == 2 * wire / 9e10
  assert collective_seconds(collective("all-to-all", 16, (0,)), wide) == 4 * wire / 9e10
  across = collective("all-reduce", 2, (), "dcn")
  assert collective_seconds(across, topologies.parse("v5e:4x4", 2)) == 48e6 / 3.125e9


def test_roofline_is_its_slowest_part():
  topology = topologies.parse("v5e:4x4")
  line = roofline(
    topology,
    [collective("all-gather", 4, (0,))],
    model_flops=16 * 197e12 * 0.3,
    executed_flops=16 * 197e12 * 0.4,
    hbm_bytes=8.2e11 * 0.5,
  )
  assert (line.seconds, line.bound_by) == (pytest.approx(0.5), "hbm")
  assert line.mfu_bound == pytest.approx(0.6)
  assert line.ici == pytest.approx(36e6 / 4.5e10)
  assert line.dcn == 0
