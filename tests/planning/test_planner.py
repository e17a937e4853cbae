"""Layouts are compared by formula: what they cost, and which kernels they allow."""

import dataclasses

import pytest

from t5x_style.planning import topologies
from tests.planning.small_run import MODEL, a_layout, a_planner

needs_libtpu = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")


def test_remat_and_microbatches_save_memory_and_cost_time(tmp_path):
  plan = a_planner(tmp_path)
  of = {remat: plan.estimate(a_layout(plan, remat, data=16)) for remat in ("none", "dots", "full")}
  assert of["none"].bytes > of["dots"].bytes > of["full"].bytes
  assert of["none"].roofline.compute < of["dots"].roofline.compute < of["full"].roofline.compute
  assert of["full"].roofline.compute / of["none"].roofline.compute < 4 / 3
  fewer = plan.estimate(a_layout(plan, "none", 4, data=16))
  assert fewer.roofline.hbm > of["none"].roofline.hbm


@needs_libtpu
def test_attention_kernels_depend_on_the_mesh(tmp_path):
  model = dataclasses.replace(MODEL, positions="relative")
  plan = a_planner(tmp_path, model=model)
  devices = topologies.devices(topologies.parse("v5e:4x4"))
  assert plan.fused_attention(a_layout(plan, fsdp=16), devices)
  assert plan.fused_attention(a_layout(plan, fsdp=8, tensor=2), devices)
  # The kernel for T5's bias cannot split the length.
  assert not plan.fused_attention(a_layout(plan, fsdp=8, sequence=2), devices)
