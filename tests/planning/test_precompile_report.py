"""The report on a step that does not fit."""

import dataclasses
import io
import json

import jax
import pytest
from rich.console import Console

from t5x_style.planning import precompile_report, topologies
from t5x_style.training import setup
from tests.planning.small_run import MODEL, a_config

needs_libtpu = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")


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
