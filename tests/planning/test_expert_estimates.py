"""Layers with experts by formula, compared with numbers by hand and with compiled steps."""

import dataclasses
import functools

import jax
import pytest

from t5x_style.models import Experts
from t5x_style.planning import compilation, expert_estimates, layouts, planner, topologies
from t5x_style.training import setup, synthetic
from t5x_style.training.step import compile_step
from tests.planning import compiled_step
from tests.planning.small_run import MODEL, a_config, a_layout, a_planner

LIMITED = Experts(num_experts=8, experts_per_token=2, every=2, capacity_factor=1.25)
TOO_LARGE = compilation.TooLarge(0, 0, (), "")
UNLIMITED = dataclasses.replace(LIMITED, capacity_factor=None)


def with_experts(experts):
  return dataclasses.replace(MODEL, experts=experts)


def test_an_expert_computes_all_rows_of_its_capacity():
  """Of 256 tokens and their 512 choices each of eight experts takes 80, which are 640 rows."""
  assert expert_estimates.computed_rows(with_experts(LIMITED), 256) == 640 / 256
  assert expert_estimates.computed_rows(with_experts(UNLIMITED), 256) == 2


def test_flops_are_those_of_the_rows_that_experts_compute(tmp_path):
  """Two of four layers have experts of 3 x 512 x 1024 parameters; 64 x 256 tokens, 0.5 rows more.

  What a step has without empty rows is compared in test_flops.py.
  """
  row = 2 * 3 * 512 * 1024
  for remat, passes in (("none", 3), ("full", 4)):
    of_empty = passes * 2 * 64 * 256 * 0.5 * row
    limited, unlimited = (
      a_planner(tmp_path, model=with_experts(experts)) for experts in (LIMITED, UNLIMITED)
    )
    of = [
      plan.roofline(a_layout(plan, remat, fsdp=16)).compute * 16 * plan.topology.chip.peak_flops
      for plan in (limited, unlimited)
    ]
    assert of[0] - of[1] == pytest.approx(of_empty, rel=1e-6)


def test_a_search_splits_the_experts_and_cuts_no_rows_with_a_capacity(tmp_path):
  for experts, may_cut in ((LIMITED, False), (UNLIMITED, True)):
    plan = a_planner(tmp_path, model=with_experts(experts), batch_size=4)
    meshes = [layout.mesh for layout in plan.layouts()]
    assert {mesh["expert"] for mesh in meshes if mesh["sequence"] == 1} == {1, 2, 4}
    assert any(mesh["sequence"] > 1 for mesh in meshes) == may_cut
  assert {layout.mesh["expert"] for layout in a_planner(tmp_path).layouts()} == {1}


def test_a_search_keeps_experts_over_the_slices_where_the_run_says_so(tmp_path):
  over_slices = {"slices": 2, "dcn_mesh_shape": {"expert": 2}}
  plan = a_planner(tmp_path, "v5e:4x4", model=with_experts(LIMITED), **over_slices)
  assert {layout.mesh["expert"] for layout in plan.layouts()} == {2, 4, 8}


@pytest.mark.parametrize(
  ("rows_per_group", "microbatches", "batches"),
  [(1, 1, [64, 32, 16]), (2, 1, [64, 32]), (1, 2, [64, 32]), (2, 2, [64])],
)
def test_smaller_batches_are_whole_groups(
  rows_per_group, microbatches, batches, tmp_path, monkeypatch
):
  """The rows of each of 16 chips in each microbatch are groups that share the capacity."""
  experts = dataclasses.replace(LIMITED, rows_per_group=rows_per_group)
  plan = a_planner(tmp_path, model=with_experts(experts), batch_size=64)
  estimate, asked = plan.estimate, []
  monkeypatch.setattr(plan, "layouts", list)
  monkeypatch.setattr(plan, "estimate", lambda x: asked.append(x.batch_size) or estimate(x))
  plan.alternatives(a_layout(plan, "full", microbatches, fsdp=16), TOO_LARGE)
  assert asked == batches


def test_experts_that_are_split_take_less_memory_and_send_rows(tmp_path):
  """A chip sends 2.5 rows of 512 bfloat16 for each of 1,024 tokens, twice in each pass of three."""
  plan = a_planner(tmp_path, model=with_experts(LIMITED), batch_size=64)
  split, whole = a_layout(plan, fsdp=4, expert=4), a_layout(plan, fsdp=16)
  sent = [x for x in plan.collectives(split) if x.kind == "all-to-all"]
  assert sum(x.bytes * x.times for x in sent) == 64 / 16 * 256 * 2.5 * 512 * 2 * 6 * 2
  assert not any(x.kind == "all-to-all" for x in plan.collectives(whole))
  gathered = [
    sum(x.bytes for x in plan.collectives(layout) if x.kind == "all-gather")
    for layout in (split, whole)
  ]
  assert gathered[0] < gathered[1]


# A mesh, the capacity of the experts (0: none), and bounds of formula / compiled program.
MESHES = [
  ({"fsdp": 2, "expert": 4}, 1.25, (0.8, 1.05)),  # This compiler does not scatter the gradients.
  ({"data": 2, "expert": 4}, 1.25, (0.98, 1.02)),
  ({"data": 2, "expert": 4}, 0, (0.98, 1.06)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("mesh", "capacity", "bounds"), MESHES)
@pytest.mark.parametrize("remat", ["none", "full"])
def test_collectives_are_those_of_a_compiled_step(
  mesh, capacity, bounds, remat, on_eight_devices, tmp_path
):
  arguments = ("decoder_only", mesh, remat, tmp_path, capacity)
  compiled = compiled_step.collectives_on(on_eight_devices, *arguments)
  config = compiled_step.a_config(*arguments)
  dataset = config.dataset("decoder_only", config.batch_size, 0, 0, 1)
  plan = planner.Planner(config, dataset, topologies.parse("v5e:2x4"))
  sizes = dict.fromkeys(("data", "fsdp", "expert", "sequence", "tensor"), 1) | mesh
  formula = plan.collectives(layouts.layout_of_config(config, dataset, sizes))
  of = [
    {kind: sum(x.wire_bytes for x in sent if x.kind == kind) for kind in {x.kind for x in sent}}
    for sent in (formula, compiled)
  ]
  if capacity:
    assert of[0]["all-to-all"] == pytest.approx(of[1]["all-to-all"], rel=0.05)
  least, most = bounds
  assert least < sum(of[0].values()) / sum(of[1].values()) < most, of


@pytest.mark.slow
@pytest.mark.parametrize("experts", [LIMITED, UNLIMITED])
@pytest.mark.parametrize("remat", ["full", "dots", "none"])
def test_memory_is_what_a_compiled_step_takes(remat, experts, tmp_path):
  """In float32, as in test_estimates.py."""
  model = dataclasses.replace(MODEL, remat=remat, experts=experts, dtype="float32")
  load = functools.partial(
    synthetic.load, feature_lengths={"targets": 256}, vocab_size=model.vocab_size
  )
  config = a_config(tmp_path, model=model, dataset=load, batch_size=16, mesh_shape={"data": 1})
  prepared = setup.prepare(config, jax.devices("cpu")[:1])
  plan = planner.Planner(config, prepared.dataset, topologies.parse("v5e:1x1"))
  memory = compilation.memory(compile_step(prepared))
  formula = plan.estimate(layouts.layout_of_prepared(prepared))
  # Without a capacity CPUs pad the rows of each expert to blocks, here by a quarter.
  least = 0.9 if experts.capacity_factor else 0.8
  assert least < formula.temporary_bytes / memory.temporaries < 2
