"""What compiled programs need, and errors about those that need too much."""

import jax
import pytest

from t5x_style.errors import UserError
from t5x_style.planning import compilation, topologies

needs_libtpu = pytest.mark.skipif(not topologies.available(), reason="libtpu is not installed")


def test_libtpu_of_another_jax_is_named_last_where_compiling_fails(monkeypatch):
  """Both the compiler and Pallas may report the failure."""
  monkeypatch.setattr(topologies, "version_mismatch", lambda: "pip install 'libtpu==0.0.42.*'")
  internal = "INTERNAL: RET_CHECK failure (async.cc:1) async-update\n*** Begin stack trace ***"
  for error in (jax.errors.JaxRuntimeError(internal), RuntimeError("a month")):

    def fail(error=error):
      raise error

    with pytest.raises(UserError) as raised:
      compilation.compile_if_it_fits(fail)
    failed, install = str(raised.value).splitlines()
    assert failed == f"Compiling failed: {str(error).splitlines()[0]}"
    assert install == "pip install 'libtpu==0.0.42.*'"


def test_what_needs_the_device_is_named():
  def fail():
    raise NotImplementedError("The head dim must be <= 128 and a multiple of 8, but got 256.")

  with pytest.raises(UserError, match="where the device is absent: The head dim must be <= 128"):
    compilation.compile_if_it_fits(fail)


def test_a_program_that_was_compiled_may_be_too_large():
  assert compilation.exceeding(10, 10) is None
  found = compilation.exceeding(11, 10)
  assert (found.needed, found.available) == (11, 10)


@needs_libtpu
def test_too_much_is_an_answer_and_the_limit_is_the_compilers():
  """A product of 64 GiB; compiling it stops after a second."""
  for text in ("v4:2x2x1", "v5e:2x2", "v6e:2x2", "v5p:2x2x1"):
    topology = topologies.parse(text)
    place = jax.sharding.SingleDeviceSharding(topologies.devices(topology)[0])
    x = jax.ShapeDtypeStruct((2**18, 2**17), "float32", sharding=place)
    lowered = jax.jit(lambda x: jax.numpy.sort(x @ x.T, axis=0)).lower(x)
    found = compilation.compile_if_it_fits(lowered.compile)
    assert isinstance(found, compilation.TooLarge)
    assert found.needed >= 2**38, found
    assert found.available == pytest.approx(topology.chip.usable_hbm_bytes, rel=1e-3)


def test_other_errors_are_no_answer():
  def fail():
    raise jax.errors.JaxRuntimeError("INTERNAL: something else")

  with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
    compilation.compile_if_it_fits(fail)


def test_reads_what_is_too_large():
  found = compilation.read_too_large(
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 22.50G of 15.75G hbm. "
    "Exceeded hbm capacity by 6.75G.\n\n  Largest program allocations in hbm:\n\n"
    '  1. Size: 8.00G\n     Operator: op_name="jit(train_step)/logits"\n'
    "     Shape: f32[65536,32768]{1,0:T(8,128)}\n"
  )
  assert (found.needed, found.available) == (22.5 * 2**30, 15.75 * 2**30)
  assert found.largest[0][0] == 8 * 2**30
  assert "f32[65536,32768]" in found.largest[0][1]
