"""What the terminal shows of an error, and how the process ends."""

import pytest

from launch.configuration import errors
from launch.configuration.errors import ConfigurationError, did_you_mean, nearest
from launch.process import watchdog
from t5x_style.errors import UserError


def run(main, *arguments):
  with pytest.raises(SystemExit) as caught:
    errors.run_command(main, ["train", *arguments])
  return caught.value.code


def fail(error):
  def main(argv):
    raise error

  return main


def test_mistakes_show_without_traceback(capsys):
  assert run(fail(ConfigurationError("BATCH_SIZE = 3\n  x.gin:1: BATCH_SIZE = 3"))) == 2
  assert capsys.readouterr().err == "\nerror: BATCH_SIZE = 3\n  x.gin:1: BATCH_SIZE = 3\n"


def test_traceback_on_request(capsys):
  assert run(fail(ConfigurationError("no")), "--traceback") == 2
  text = capsys.readouterr().err
  assert "Traceback" in text
  assert text.endswith("\nerror: no\n")


def test_exit_codes(capsys):
  assert run(lambda argv: None) == 0
  assert run(fail(FloatingPointError("loss is nan at step 3"))) == 1
  assert "error: loss is nan at step 3" in capsys.readouterr().err
  assert run(fail(KeyboardInterrupt())) == 130


def test_a_programming_error_is_not_a_mistake():
  with pytest.raises(ValueError, match="shapes"):
    errors.run_command(fail(ValueError("shapes")), ["train"])


def test_mistakes_found_while_setting_up():
  for error in (UserError("bad"), OSError(13, "Permission denied", "/data/x"), OSError(28, "full")):
    with pytest.raises(ConfigurationError, match="bad|Permission denied: '/data/x'|full"):
      with errors.setup():
        raise error


def test_faults_found_while_setting_up_keep_their_traceback():
  """Those of JAX, Orbax and TensorFlow, and our own."""
  for error in (ValueError("shapes"), OSError("No metadata found"), TypeError("no")):
    with pytest.raises(type(error)) as caught, errors.setup():
      raise error
    assert caught.value is error


LOST = [
  "Gloo all-reduce failed: [external/gloo/transport/tcp/pair.cc:538] Connection closed by peer",
  "Gloo AllGather failed: [external/gloo/unbound_buffer.cc:78] Timed out waiting 30000ms for recv",
  "NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error",
  "Barrier timed out. Id: end::0. This usually happens because a task triggered the barrier late",
  "UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was preempted",
  "/job:jax_worker/replica:0/task:1 heartbeat timeout. This indicates that the remote task failed",
  "UNAVAILABLE: Socket closed",
]
OTHERS = [
  RuntimeError("no peer access between these two GPUs"),
  RuntimeError("cannot lower optimization_barrier"),
  RuntimeError("NCCL operation ncclCommInitRank() failed: unhandled cuda error, out of memory"),
  RuntimeError("libgloo.so was not found"),
  ConnectionResetError(104, "Connection reset by peer"),
]


def test_only_what_jax_says_of_a_lost_process_is_taken_for_one(monkeypatch):
  assert watchdog.explain(RuntimeError(LOST[0])) is None, "there is one process"
  monkeypatch.setattr(watchdog, "_finished", [0])
  for text in LOST:
    assert "another process of this job is lost" in watchdog.explain(RuntimeError(text)), text
  for error in OTHERS:
    assert watchdog.explain(error) is None, error


def test_a_mistake_found_late_shows_without_traceback(capsys):
  assert run(fail(UserError("x.jsonl is damaged"))) == 1
  assert capsys.readouterr().err == "\nerror: x.jsonl is damaged\n"


def test_the_trail_of_calls_gin_appends_is_cut():
  message = (
    "BATCH_SIZE = 3 does not divide\n  In call to configurable 'Run' (<class 'x.Run'>)"
    "\n  In call to configurable 'train' (<function f at 0x1>) in scope 'a'"
  )
  assert errors.plain_message(ValueError(message)) == "BATCH_SIZE = 3 does not divide"


def test_nearest():
  assert nearest("train_step", ["TRAIN_STEPS", "batch_size"]) == ["TRAIN_STEPS"]
  assert did_you_mean("xyzzy", ["a"]) == ""
  assert did_you_mean("colr", ["color", "colour"]) == " Did you mean 'color' or 'colour'?"
