"""Rooflines and seconds of collectives: worked examples of a book, and sums done by hand."""

import dataclasses

import pytest

from t5x_style.hardware import GPU_CHIPS
from t5x_style.planning import topologies
from t5x_style.planning.collectives import Collective
from t5x_style.planning.roofline import collective_seconds, roofline


def collective(kind, group, axes, network="ici", size=16_000_000, times=3):
  return Collective(kind, network, (), size, group, axes, times, True, "")


def seconds(kind, group, axes, topology, **sizes):
  return collective_seconds(collective(kind, group, axes, **sizes), topologies.parse(topology))


def test_worked_examples_of_the_book():
  """ "How to Scale Your Model" (Austin et al. 2025), part 3: quiz 2, question 2 and its table.

  Question 2 counts all V bytes of an array; a ring of g devices sends only V (g - 1) / g of them.
  """
  # 2048 x 8192 numbers in bfloat16 over an axis of 4, which is not a ring on a v5e.
  found = seconds("all-gather", 4, (1,), "v5e:8x4", size=2 * 2048 * 8192, times=1)
  assert found == pytest.approx(560e-6, rel=0.01)
  # 1024 x 4096 numbers on a v4 of 4x4x4, where every axis is a ring.
  array = 2 * 1024 * 4096
  along_x = seconds("all-gather", 4, (0,), "v4:4x4x4", size=array // 4, times=1)
  assert along_x == pytest.approx(3 / 4 * 23e-6, rel=0.02)
  along_x_and_y = seconds("all-gather", 16, (0, 1), "v4:4x4x4", size=array, times=1)
  assert along_x_and_y == pytest.approx(15 / 16 * 46e-6, rel=0.02)
  # An all-reduce takes twice as long; an all-to-all, which begins with a part, a quarter.
  summed = seconds("all-reduce", 4, (0,), "v4:4x4x4", size=array // 4, times=1)
  assert summed == pytest.approx(2 * along_x)
  exchanged = seconds("all-to-all", 4, (0,), "v4:4x4x4", size=array // 16, times=1)
  assert exchanged == pytest.approx(along_x / 4)


def test_seconds_of_a_collective():
  """16 MB three times among 16 chips: 45 MB leave each chip, over links of 45 GB/s each way."""
  assert collective("all-gather", 16, (0,)).wire_bytes == 45e6
  # The 16 chips of an axis of 16 are a ring; those of a 4 x 4 slice are lines of 4 along two axes.
  assert seconds("all-gather", 16, (0,), "v5e:16x16") == pytest.approx(0.5e-3)
  assert seconds("all-gather", 16, (0, 1), "v5e:4x4") == pytest.approx(0.5e-3)
  assert seconds("all-gather", 4, (0,), "v5e:4x4") == pytest.approx(0.8e-3)
  assert seconds("all-reduce", 16, (0,), "v5e:16x16") == pytest.approx(1e-3)
  assert seconds("all-to-all", 16, (0,), "v5e:16x16") == pytest.approx(2e-3)
  # Between two slices each chip sends 48 MB over its share of 3.125 GB/s.
  across = collective("all-reduce", 2, (), "dcn")
  found = collective_seconds(across, topologies.parse("v5e:4x4", 2))
  assert found == pytest.approx(15.36e-3)


def test_seconds_between_gpus():
  """16 MB three times, through NVLink at 450 GB/s each way and cards of 50 GB/s a GPU.

  A ring of 16 GPUs in two nodes enters a node by the cards of all 8; what an all-to-all sends to
  another node leaves by the sender's own card.
  """
  within = collective("all-gather", 8, ())
  assert collective_seconds(within, topologies.parse("h100:8")) == pytest.approx(42e6 / 450e9)
  ring = collective("all-reduce", 16, (), "dcn")._replace(per_node=8)
  assert collective_seconds(ring, topologies.parse("h100:2x8")) == pytest.approx(90e6 / 400e9)
  exchange = collective("all-to-all", 16, (), "dcn")._replace(per_node=8)
  assert collective_seconds(exchange, topologies.parse("h100:2x8")) == pytest.approx(45e6 / 50e9)
  assert collective_seconds(within, topologies.parse("b200:8")) == pytest.approx(42e6 / 900e9)


def test_expected_seconds_are_those_of_all_kernels_times_the_fitted_constant():
  """.4 s of products and .1 s of other kernels; NVLink is busy meanwhile."""
  chip = dataclasses.replace(GPU_CHIPS["h200"], step_factor=1.2)
  topology = topologies.Topology(chip, (8,))
  arguments = {"model_flops": 8 * 989e12 * 0.3, "executed_flops": 8 * 989e12 * 0.4}
  line = roofline(topology, [], **arguments, hbm_bytes=4.8e12 * 0.5, other_bytes=4.8e11)
  assert line.seconds == pytest.approx(0.5)
  assert line.expected == pytest.approx(1.2 * 0.5)
  sent = [collective("all-gather", 8, (), size=int(450e9), times=1)]
  line = roofline(topology, sent, **arguments, hbm_bytes=0.0, other_bytes=4.8e11)
  assert (line.expected, line.bound_by) == (pytest.approx(7 / 8), "ici")
  assert roofline(topology, [], **arguments, hbm_bytes=0.0).expected is None
  unknown = dataclasses.replace(topology, chip=dataclasses.replace(chip, step_factor=None))
  assert roofline(unknown, [], **arguments, hbm_bytes=0.0, other_bytes=1.0).expected is None


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
  assert line.ici == pytest.approx(0.8e-3)
  assert line.dcn == 0
