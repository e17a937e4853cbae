"""Programs run in turns, and columns of time are computed by hand."""

import jax
import jax.numpy as jnp
import pytest

from launch.benchmarks import compiled_programs


def test_programs_run_in_turns_and_in_reverse_order_every_other_round(monkeypatch):
  now, order = [0.0], []
  monkeypatch.setattr("time.perf_counter", lambda: now[0])

  def program(name, seconds):
    def run(x):
      order.append(name)
      now[0] += seconds
      return x

    return run

  programs = {"plain": program("plain", 4.0), "lean": program("lean", 1.0)}
  seconds = compiled_programs.seconds_in_turns(programs, [jnp.ones(())])
  assert order[:6] == ["lean", "plain", "plain", "lean", "lean", "plain"]
  # The first round warms up; six more of five seconds pass the 30 seconds that are enough.
  assert seconds == {"plain": [4.0] * 6, "lean": [1.0] * 6}
  columns = compiled_programs.timing_columns(seconds, "lean", flops=3e12)
  assert columns == {"milliseconds": 1000.0, "teraflops": 3.0, "rounds": 6, "time_ratio": 0.25}
  assert compiled_programs.timing_columns({}, "lean", flops=3e12) == {}


def test_temporary_memory_holds_what_is_neither_argument_nor_output():
  """The product has 512 x 512 numbers in float32: 1 MiB."""
  program = jax.jit(lambda x: jnp.sort(x @ x.T, axis=0)[0])
  compiled = program.lower(jax.ShapeDtypeStruct((512, 4), "float32")).compile()
  assert compiled_programs.temporary_bytes(compiled) >= 2**20
  assert compiled_programs.temporary_bytes(None) is None


def test_a_program_that_does_not_fit_is_none():
  def fail():
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Used 20G of 16G hbm")

  assert compiled_programs.compile_or_none(fail) is None
  with pytest.raises(ValueError, match="other"):
    compiled_programs.compile_or_none(lambda: (_ for _ in ()).throw(ValueError("other")))
