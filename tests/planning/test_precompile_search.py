"""The ranking of layouts, and the gin file of the winner."""

import functools
import io

import pytest
from rich.console import Console

from t5x_style.errors import UserError
from t5x_style.planning import precompile_search, topologies
from tests.planning.small_run import a_config


def test_search_by_formula_is_ranked_and_written_only_when_compiled(tmp_path):
  found = precompile_search.search(a_config(tmp_path), topologies.parse("v5e:4x4"), [], compiles=0)
  value = precompile_search.as_json(found)
  assert value["tried"] == len(value["candidates"]) > 50
  fitting = [row for row in value["candidates"] if row["fits"]]
  assert fitting == value["candidates"][: len(fitting)]
  seconds = [row["least_step_seconds"] for row in fitting]
  assert seconds == sorted(seconds)
  for row in fitting:
    sizes = row["mesh"].values()
    assert functools.reduce(lambda a, b: a * b, sizes) == 16
  assert value["winner"] is None
  with pytest.raises(UserError, match="no winner to write"):
    precompile_search.gin_text(found)
  out = io.StringIO()
  precompile_search.show(found, Console(file=out, width=110, color_system=None))
  assert "microbatches" in out.getvalue() and "formula" in out.getvalue()


def test_batch_that_divides_over_no_mesh_is_refused(tmp_path):
  with pytest.raises(UserError, match="BATCH_SIZE = 7 divides over no mesh"):
    config = a_config(tmp_path, batch_size=7)
    precompile_search.search(config, topologies.parse("v5e:16x16"), [], compiles=0)
