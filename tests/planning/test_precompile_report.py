"""The report on a step that does not fit."""

import dataclasses
import io
import json
import types

import jax
import pytest
from rich.console import Console

from t5x_style.planning import precompile_report, precompile_search, topologies
from t5x_style.planning.layouts import layout_of_prepared
from t5x_style.planning.roofline import Roofline
from t5x_style.training import setup
from tests.planning.small_run import MODEL, a_config

needs_libtpu = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")


def test_money_is_that_of_all_chips_for_the_time_of_the_steps(tmp_path):
  """1,000 steps of 64 x 256 tokens, .5 s on 16 chips at 3.60 an hour: .8 cents a step."""
  prepared = setup.prepare(a_config(tmp_path, mesh_shape={"data": 1}), jax.devices()[:1])
  report = precompile_report.Report(
    prepared=prepared,
    topology=topologies.parse("v5e:4x4"),
    memory={"parameters": 1},
    too_large=None,
    compiled=True,
    roofline=Roofline(compute=0.5, hbm=0.1, ici=0.1, dcn=0.0, model_compute=0.4),
    sent=[],
    kernels=0,
    compile_seconds=1.0,
    alternatives=[],
    price=3.6,
  )
  money = precompile_report.as_json(report)["money"]
  assert money["step"] == pytest.approx(0.008)
  assert money["billion_tokens"] == pytest.approx(0.008 / (64 * 256) * 1e9)
  assert money["run"] == pytest.approx(8.0)
  out = io.StringIO()
  precompile_report.show(report, Console(file=out, width=200, color_system=None))
  assert "At 3.6 a chip and hour: at least 0.008 a step" in out.getvalue()
  without = dataclasses.replace(report, price=None)
  assert precompile_report.as_json(without)["money"] is None
  # What steps took on such a device counts more than the least that its rates allow.
  expected = dataclasses.replace(report.roofline, expected=1.0)
  report = dataclasses.replace(report, roofline=expected)
  value = precompile_report.as_json(report)
  assert value["money"]["run"] == pytest.approx(16.0)
  assert (value["predicted_step_seconds"], value["least_step_seconds"]) == (1.0, 0.5)
  assert value["tokens_per_second"] == 64 * 256 / value["predicted_step_seconds"]
  assert value["days"] == pytest.approx(1000 * value["predicted_step_seconds"] / 86_400)
  assert value["chip_hours"] == pytest.approx(24 * value["days"] * 16)
  # A row of the ranking, too.
  estimate = types.SimpleNamespace(layout=layout_of_prepared(prepared), bytes=1)
  candidate = precompile_search.Candidate(estimate, report)
  found = precompile_search.SearchResult(report.topology, 1, [candidate], [])
  (row,) = precompile_search.as_json(found)["candidates"]
  assert (row["predicted_step_seconds"], row["least_step_seconds"]) == (1.0, 0.5)


@needs_libtpu
def test_a_step_that_is_too_large_gets_three_settings_that_fit(tmp_path):
  """Parameters and their moments need more than the 16 GiB of a v5e, without any activation."""
  wide = dataclasses.replace(MODEL, emb_dim=4096, mlp_dim=16384, num_decoder_layers=5)
  config = a_config(tmp_path, model=wide, mesh_shape={"data": 4})
  topology = topologies.parse("v5e:2x2")
  prepared = setup.prepare(config, topologies.devices(topology))
  assert not (tmp_path / "untouched").exists()
  report = precompile_report.examine(prepared, topology)
  value = json.loads(json.dumps(precompile_report.as_json(report)))
  assert {
    "topology", "chips", "hbm_bytes_per_chip", "hbm_limit_bytes", "fits", "flops_per_step",
    "predicted_step_seconds", "mfu_bound", "collectives",
  } <= value.keys()  # fmt: skip
  assert (value["fits"], value["chips"], value["topology"]) == (False, 4, "v5e:2x2")
  assert value["hbm_bytes_per_chip"] > value["hbm_limit_bytes"]
  parameters = sum(x.size for x in jax.tree.leaves(prepared.abstract.params))
  assert value["memory"]["parameters"] == 4 * parameters
  assert value["memory"]["optimizer state"] == pytest.approx(8 * parameters, rel=1e-3)
  assert len(value["alternatives"]) == 3
  for one in value["alternatives"]:
    assert "fsdp" in one["change"] or "tensor" in one["change"]
    assert one["hbm_bytes_per_chip"] <= value["hbm_limit_bytes"]
  out = io.StringIO()
  precompile_report.show(report, Console(file=out, width=110, color_system=None))
  text = out.getvalue()
  assert "It does not fit" in text and "MESH_SHAPE = " in text and "chip-hours" in text
