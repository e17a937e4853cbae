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


def test_slices_split_data_then_fsdp_or_what_the_run_says(tmp_path):
  plan = a_planner(tmp_path, "v5e:4x4", slices=4)
  sizes = {"data": 8, "fsdp": 8, "sequence": 1, "tensor": 1}
  assert plan.across(sizes) == {"data": 4, "fsdp": 1}
  assert plan.across({**sizes, "data": 2, "fsdp": 32}) == {"data": 2, "fsdp": 2}
  # 16 chips of a slice cannot hold 32 parts of a layer that the links of a slice have to connect.
  assert plan.across({**sizes, "data": 1, "fsdp": 2, "tensor": 32}) is None
  plan = a_planner(tmp_path, "v5e:4x4", slices=4, dcn_mesh_shape={"fsdp": 4})
  assert plan.across(sizes) == {"fsdp": 4}
  assert plan.across({**sizes, "data": 32, "fsdp": 2}) is None


def test_search_by_formula_keeps_gathers_within_a_slice(tmp_path):
  """Kernels that are gathered over the slow network cost more than a sum of gradients does."""
  plan = a_planner(tmp_path, "v5e:4x4", slices=2)
  within = plan.estimate(a_layout(plan, data=2, fsdp=16)).roofline
  over = plan.estimate(a_layout(plan, fsdp=32)).roofline
  assert 0 < within.dcn < 0.6 * over.dcn


@needs_libtpu
def test_attention_kernels_depend_on_the_mesh(tmp_path):
  model = dataclasses.replace(MODEL, positions="relative")
  plan = a_planner(tmp_path, model=model)
  devices = topologies.devices(topologies.parse("v5e:4x4"))
  assert plan.fused_attention(a_layout(plan, fsdp=16), devices)
  assert plan.fused_attention(a_layout(plan, fsdp=8, tensor=2), devices)
  # The kernel for T5's bias cannot split the length.
  assert not plan.fused_attention(a_layout(plan, fsdp=8, sequence=2), devices)
