"""A profile is written if requested, and its summary adds up the times of a trace."""

import dataclasses

import jax
import pytest
from etils import epath

from t5x_style.planning import topologies
from t5x_style.reporting import profiling
from tests import tiny

PROGRAM = """
  %fusion.3 = f32[4]{0} fusion(%p), metadata={op_name="jit(f)/jvp(N)/N.encode/while/body/mlp/dot"}
  ROOT %add.7 = f32[4]{0} add(%a, %b), metadata={op_name="jit(step)/transpose(jvp(Net))/mlp/add"}
"""


def name(pid, tid, text):
  return {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": text}}


def event(pid, tid, text, microseconds, **arguments):
  return {"ph": "X", "name": text, "pid": pid, "tid": tid, "dur": microseconds, "args": arguments}


def test_operations_are_named_by_their_part_of_the_model():
  parts = profiling.operations(PROGRAM)
  assert parts["fusion.3"] == parts["fusion_3"] == "mlp/dot"  # GPUs' kernels have no dots.
  assert parts["add.7"] == "mlp/add, backward"


def test_summary_of_a_cpu():
  events = [
    name(1, 1, "tf_XLAEigen/1"),
    event(1, 1, "fusion.3", 3000, hlo_op="fusion.3"),
    event(1, 1, "end: fusion.3", 3000, hlo_op="fusion.3"),
    event(
      1, 1, "while.2", 9000, hlo_op="while.2"
    ),  # It contains operations that are counted themselves.
    event(1, 1, "ThunkExecutor::Execute", 9000),
    event(1, 2, "copy.1", 1000, hlo_op="copy.1"),
  ]
  lines = profiling.summary(events, profiling.operations(PROGRAM), steps=2).splitlines()
  assert lines[0].startswith("2.0 ms of operations a step")
  assert [line.split() for line in lines[1:]] == [
    ["75.0%", "1.5", "ms", "mlp/dot"],
    ["25.0%", "0.5", "ms", "copy"],
  ]


def test_summary_of_a_device_counts_one_of_its_lines():
  events = [
    name(2, 1, "XLA Ops"),
    name(2, 2, "Steps"),
    event(2, 1, "fusion.3", 4000),
    event(2, 2, "1", 8000),
  ]
  lines = profiling.summary(events, {}, steps=1).splitlines()
  assert [line.split() for line in lines[1:]] == [["100.0%", "4.0", "ms", "fusion"]]


def test_summary_of_a_gpu_looks_into_its_graphs():
  events = [
    name(1, 14, "Stream #14(Compute)"),
    event(1, 14, "fusion_3", 3000, hlo_op="command_buffer_1"),
    event(1, 14, "nvjet_sm90_128x160", 1000, hlo_op="command_buffer_1"),
  ]
  lines = profiling.summary(events, profiling.operations(PROGRAM), steps=1).splitlines()
  assert [line.split() for line in lines[1:]] == [
    ["75.0%", "3.0", "ms", "mlp/dot"],
    ["25.0%", "1.0", "ms", "nvjet_sm90_128x160"],
  ]


@pytest.fixture
def safe():
  """Skips if libtpu is installed without a TPU: the profiler would end the process."""
  if topologies.available():
    pytest.skip("another test of this process may have loaded libtpu")
  try:
    profiling.check((1, 1))
  except ValueError as error:
    assert "JAX_PLATFORMS=cpu" in str(error)
    pytest.skip("set JAX_PLATFORMS=cpu")


def test_a_run_writes_a_profile(tiny_config, tmp_path, capsys, safe):
  config = dataclasses.replace(tiny_config("decoder_only", tmp_path), profile_steps=(2, 3))
  tiny.train(config, show=True)
  shown = capsys.readouterr().out
  text = (tmp_path / "profile-2-3.txt").read_text()
  assert text.startswith("Steps 2 to 3: ") and text.splitlines()[1].strip() in shown
  assert "mlp" in text
  assert list((tmp_path / "tensorboard/plugins/profile").glob("*/*.xplane.pb"))
  # A run resumes although its folder of records now has other folders, too.
  again = dataclasses.replace(config, train_steps=5, profile_steps=None)
  assert tiny.train(again).first_step == 4
  assert not list((tmp_path / "tensorboard/plugins").glob("events*"))


def test_a_profile_that_cannot_be_written_is_only_a_warning(tmp_path, no_room):
  compiled = jax.jit(lambda x: x + 1).lower(1.0).compile()
  with no_room(), pytest.warns(UserWarning, match="the profile is not complete"):
    with profiling.Profiler((1, 1), epath.Path(tmp_path)) as profiler:
      profiler.before(1)
      assert profiler.after(1, compiled(1.0), compiled) == ""
