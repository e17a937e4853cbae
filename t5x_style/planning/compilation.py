"""Compiles programs that may need more memory than a device has, and reads what they need."""

import re
from collections.abc import Callable
from typing import NamedTuple

import jax

from t5x_style.errors import UserError
from t5x_style.planning import topologies

_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([BKMGT]?)"


class Memory(NamedTuple):
  """Bytes of one device's memory that a compiled program needs."""

  arguments: int
  outputs: int  # without those that reuse the memory of arguments
  temporaries: int
  code: int

  @property
  def total(self) -> int:
    return sum(self)


class TooLarge(NamedTuple):
  """A program that does not fit a device, in the compiler's numbers (0: it reports none)."""

  needed: int  # bytes
  available: int
  largest: tuple[tuple[int, str], ...]  # (bytes, shape and operation) of the largest allocations
  message: str


def compile_if_it_fits(
  compile_program: Callable[[], jax.stages.Compiled],
) -> jax.stages.Compiled | TooLarge:
  """Returns the compiled program, or TooLarge if a device has too little memory for it.

  Raises:
    UserError: JAX cannot compile it where the device is absent; or compiling fails for another
      reason and libtpu is not the version that JAX needs.
  """
  try:
    return compile_program()
  except NotImplementedError as error:  # of cuDNN's attention, which asks for the GPU that is here
    raise UserError(
      f"JAX cannot compile this step where the device is absent: {error} Try ATTENTION = 'xla'."
    ) from error
  except RuntimeError as error:  # of the compiler, or of Pallas if the compiler is too old
    if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error):
      return read_too_large(str(error))
    if mismatch := topologies.version_mismatch():
      # What to do comes last, where it is read.
      raise UserError(f"Compiling failed: {str(error).splitlines()[0]}\n{mismatch}") from error
    raise


def memory(compiled: jax.stages.Compiled) -> Memory | None:
  """Returns the memory that a program needs on each device, None if the compiler reports none."""
  stats = compiled.memory_analysis()
  if stats is None:
    return None
  return Memory(
    stats.argument_size_in_bytes,
    stats.output_size_in_bytes - stats.alias_size_in_bytes,
    stats.temp_size_in_bytes,
    stats.generated_code_size_in_bytes,
  )


def exceeding(needed: int, available: int) -> TooLarge | None:
  """Returns TooLarge if a compiled program needs more bytes than a device has; else None."""
  return TooLarge(needed, available, (), "") if needed > available else None


def read_too_large(message: str) -> TooLarge:
  """Reads libtpu's error message, which has several forms."""
  needed = available = 0
  for pattern in (
    rf"Used {_SIZE} of {_SIZE} hbm",
    rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)",
    rf"[Rr]equired?\D*{_SIZE}\D+?exceeds\D*{_SIZE}",
  ):
    if found := re.search(pattern, message):
      needed, available = _bytes(*found.groups()[:2]), _bytes(*found.groups()[2:])
      break
  largest = re.findall(
    rf"Size: {_SIZE}\s+(?:Operator: op_type=\S* )?(?:Operator: op_name=\"([^\"]*)\")?"
    r"[^\n]*\s+Shape: (\S+)",
    message,
  )
  return TooLarge(
    needed,
    available,
    tuple((_bytes(size, unit), f"{shape} {name}".strip()) for size, unit, name, shape in largest),
    message,
  )


def _bytes(size: str, unit: str) -> int:
  return int(float(size) * _UNITS[unit])
