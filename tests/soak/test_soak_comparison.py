"""The comparison of two runs sees one changed bit, a doubled line and another position."""

import json
import re
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import tiny
from tests.soak import comparison

LAST = 4


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """MODEL_DIR of a tiny run, with checkpoints of the steps 2 and 4."""
  model_dir = tmp_path_factory.mktemp("run")
  tiny.train(tiny.config("decoder_only", model_dir, save_period=2))
  return model_dir


@pytest.fixture
def copied(trained, tmp_path):
  return shutil.copytree(trained, tmp_path / "copy")


@pytest.mark.slow
def test_a_run_equals_its_repetition(trained, tmp_path):
  """Times differ, and are left out."""
  tiny.train(tiny.config("decoder_only", tmp_path, save_period=2))
  assert comparison.differences(trained, tmp_path) == []


def with_one_bit_changed(array):
  data = bytearray(array.tobytes())
  data[0] ^= 1
  return np.frombuffer(data, array.dtype).reshape(array.shape)


@pytest.mark.parametrize("step", [2, LAST])
@pytest.mark.parametrize("part", ["params", "opt_state"])
def test_one_changed_bit_is_seen(trained, copied, part, step):
  state = copied / "checkpoints" / str(step) / "state"
  name = next(name for name in comparison.arrays(copied, step) if part in name)

  def changed(path, leaf):
    return with_one_bit_changed(np.asarray(leaf)) if jax.tree_util.keystr(path) == name else leaf

  checkpointer = ocp.PyTreeCheckpointer()
  tree = jax.tree_util.tree_map_with_path(changed, checkpointer.restore(state))
  checkpointer.save(state, tree, force=True)
  assert comparison.differences(trained, copied) == [f"step {step}: {name} differs"]


def change_lines(change):
  def apply(model_dir):
    log = model_dir / "metrics.jsonl"
    log.write_text("".join(change(log.read_text().splitlines(keepends=True))))

  return apply


def with_another_loss(lines):
  record = json.loads(lines[1])
  record["loss"] = float(np.nextafter(record["loss"], 9))
  return [lines[0], json.dumps(record) + "\n", *lines[2:]]


@pytest.mark.parametrize(
  "change, seen",
  [
    (lambda lines: [*lines[:2], lines[1], *lines[2:]], r"1 records are double, such as \(2, 'tr"),
    (lambda lines: [*lines[:1], *lines[2:]], r"1 records are missing, such as \(2, 'train'\)"),
    (lambda lines: [*lines, lines[-1].replace('"step": 4', '"step": 5')], "1 records are added"),
    (with_another_loss, r"\(2, 'train'\): "),
    (lambda lines: [*lines[:-1], lines[-1][:9]], "a line is no record"),
  ],
)
def test_a_doubled_missing_or_changed_line_is_seen(trained, copied, change, seen):
  change_lines(change)(copied)
  (line,) = comparison.differences(trained, copied)
  assert re.search(f"metrics.jsonl: .*{seen}", line)


def test_another_position_in_the_data_is_seen(trained, copied):
  stream = copied / "checkpoints" / str(LAST) / "data" / "stream_00000"
  stream.write_bytes(b"5")
  expected = [f"step {LAST}: the position in the data differs"]
  assert comparison.differences(trained, copied) == expected

  def numbers(streams):
    return [{"tokens": np.array([int(x) for x in streams.values()])}]

  assert comparison.differences(trained, copied, numbers) == expected
  stream.write_bytes(b" 4")  # Other bytes, and the same place.
  assert comparison.differences(trained, copied, numbers) == []


def test_a_missing_end_is_seen(trained, copied):
  shutil.rmtree(copied / "checkpoints" / str(LAST))
  assert comparison.differences(trained, copied) == ["the newest checkpoint is [2], not [4]"]


def test_a_number_that_is_not_finite_is_seen(trained, copied):
  assert comparison.not_finite(copied) == []
  state = copied / "checkpoints" / str(LAST) / "state"
  tree = ocp.PyTreeCheckpointer().restore(state)
  first = jax.tree.leaves(tree["params"])[0]
  tree["params"] = jax.tree.map(lambda x: x * np.nan if x is first else x, tree["params"])
  ocp.PyTreeCheckpointer().save(state, tree, force=True)
  (found,) = comparison.not_finite(copied)
  assert found.startswith(f"{LAST}: ['params']")


def test_entries_that_may_differ_are_left_out(trained, copied):
  def with_failed_saves(lines):
    return [line.replace('"split"', '"failed_saves": 1, "split"') for line in lines]

  change_lines(with_failed_saves)(copied)
  assert "failed_saves" in comparison.differences(trained, copied)[0]
  assert comparison.differences(trained, copied, may_differ=["failed_saves"]) == []
