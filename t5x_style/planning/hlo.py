"""Parses the text of a compiled program (HLO): its instructions, and how often each one runs."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

Shape = tuple[str, tuple[int, ...]]  # dtype as HLO spells it, sizes

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"(?:ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_BITS = {"pred": 8, "s4": 4, "u4": 4, "token": 0, "opaque": 0}
# Instructions that pass a number on unchanged.
_TRANSPARENT = ("copy", "bitcast", "convert", "reshape", "copy-start", "copy-done")


class Instruction(NamedTuple):
  """One instruction of a computation.

  Attributes:
    shapes: of its result; of a result that is a tuple, the shapes of all its arrays.
    operands: names of the instructions whose results it takes.
    rest: its text after the opening parenthesis of the operands.
    is_root: whether its result is that of the computation.
  """

  name: str
  shapes: tuple[Shape, ...]
  opcode: str
  operands: tuple[str, ...]
  rest: str
  is_root: bool

  def called(self, *attributes: str) -> list[str]:
    """Returns the computations that these attributes name, e.g. "calls"."""
    return re.findall(rf"\b(?:{'|'.join(attributes)})=\{{?%?([\w.\-]+)", self.rest)

  def attribute(self, pattern: str) -> str | None:
    """Returns what the group of a regular expression matches in the attributes."""
    found = re.search(pattern, self.rest)
    return found[1] if found else None

  @property
  def op_name(self) -> str:
    """The traced operation it comes from; "" if the compiler does not report it."""
    return self.attribute(r'op_name="([^"]*)"') or ""


class Program(NamedTuple):
  """The computations of a program by name, each as {name: instruction}, and the first to run."""

  entry: str
  computations: dict[str, dict[str, Instruction]]


def parse(text: str) -> Program:
  """Parses the text that `jax.stages.Compiled.as_text` returns."""
  entry = ""
  computations: dict[str, dict[str, Instruction]] = {}
  current: dict[str, Instruction] | None = None
  for line in _whole_lines(text):
    if line.startswith("}"):
      current = None
    elif current is None:
      found = _COMPUTATION.match(line)
      if found:
        current = computations.setdefault(found[2], {})
        entry = found[2] if found[1] else entry
    elif instruction := _instruction(line.strip()):
      current[instruction.name] = instruction
  return Program(entry, computations)


def _whole_lines(text: str) -> Iterator[str]:
  """Yields the lines of a text, with each instruction that spans several lines joined into one.

  The attributes of a Pallas kernel contain line breaks, and lines that begin with braces.
  """
  whole, inside = "", False
  for line in text.splitlines():
    if inside and not line.startswith("  ") and line != "}":
      whole += line
      continue
    yield whole
    whole = line
    inside = line != "}" if inside else line.endswith("{")
  yield whole


def bytes_of(shapes: tuple[Shape, ...]) -> int:
  """Returns the bytes of arrays of these shapes, without the padding of their layouts."""
  return sum(_bits(dtype) * math.prod(sizes) // 8 for dtype, sizes in shapes)


def scheduled(program: Program) -> dict[str, int]:
  """Returns {computation: how often it runs} for the entry and the bodies of loops.

  Fusions, and other computations that are part of one instruction, are left out. A loop whose
  number of trips cannot be read counts as one trip.
  """
  times: Counter[str] = Counter()

  def visit(name: str, count: int) -> None:
    times[name] += count
    for instruction in program.computations.get(name, {}).values():
      if instruction.opcode == "while":
        trips = trip_count(program, name, instruction)
        for body in instruction.called("body"):
          visit(body, count * (1 if trips is None else trips))
      elif instruction.opcode in ("call", "conditional"):
        for callee in _branches(instruction):
          visit(callee, count)

  visit(program.entry, 1)
  return dict(times)


def within(program: Program, instruction: Instruction) -> Iterator[tuple[str, Instruction]]:
  """Yields (computation, instruction) for all inside a fusion or an asynchronous wrapper."""
  for callee in instruction.called("calls"):
    for inner in program.computations.get(callee, {}).values():
      yield callee, inner
      yield from within(program, inner)


def trip_count(program: Program, computation: str, loop: Instruction) -> int | None:
  """Returns how often a loop's body runs, from XLA's annotation or from `while (i < limit)`."""
  if known := loop.attribute(r'"known_trip_count":\{"n":"(\d+)"\}'):
    return int(known)
  (condition,) = loop.called("condition")
  body = program.computations[condition]
  root = next(i for i in body.values() if i.is_root)
  if root.opcode != "compare" or "direction=LT" not in root.rest or len(root.operands) != 2:
    return None
  begin, end = (_resolve(program, condition, x, loop, computation) for x in root.operands)
  return None if begin is None or end is None else max(0, end - begin)


def _resolve(
  program: Program, condition: str, name: str, loop: Instruction, computation: str
) -> int | None:
  """Returns the number that an operand of a loop's condition is before the first trip."""
  instruction = program.computations[condition].get(name)
  if instruction is None:
    return None
  if instruction.opcode != "get-tuple-element":
    return _constant(program.computations[condition], instruction.name)
  index = int(instruction.attribute(r"index=(\d+)") or 0)
  outside = program.computations[computation]
  carried = outside.get(loop.operands[0])
  if carried is None or carried.opcode != "tuple":
    return None
  return _constant(outside, carried.operands[index])


def _constant(computation: dict[str, Instruction], name: str) -> int | None:
  instruction = computation.get(name)
  while instruction is not None and instruction.opcode in _TRANSPARENT:
    instruction = computation.get(instruction.operands[0]) if instruction.operands else None
  if instruction is None or instruction.opcode != "constant":
    return None
  found = re.match(r"(-?\d+)\)", instruction.rest)
  return int(found[1]) if found else None


def _instruction(line: str) -> Instruction | None:
  found = _INSTRUCTION.match(line)
  if not found:
    return None
  rest = line[found.end() :]
  end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.find(" ")
  opcode = _OPCODE.match(rest, end)
  if not opcode:
    return None
  inside = rest[opcode.end() : _closing(rest, opcode.end() - 1)]
  operands = tuple(re.findall(r"%([\w.\-]+)", inside))
  return Instruction(
    found[1],
    tuple(
      (dtype, tuple(int(n) for n in sizes.split(",") if n))
      for dtype, sizes in _ARRAY.findall(rest[:end])
    ),
    opcode[1],
    operands,
    rest[opcode.end() :],
    line.startswith("ROOT "),
  )


def _closing(text: str, start: int) -> int:
  """Returns the index at which the parenthesis that opens at `start` closes."""
  depth = 0
  for i in range(start, len(text)):
    depth += {"(": 1, ")": -1}.get(text[i], 0)
    if depth == 0:
      return i
  return len(text) - 1


def _branches(instruction: Instruction) -> list[str]:
  several = instruction.attribute(r"branch_computations=\{([^}]*)\}")
  if several:
    return re.findall(r"%?([\w.\-]+)", several)
  return instruction.called("to_apply", "calls", "true_computation", "false_computation")


def _bits(dtype: str) -> int:
  if dtype in _BITS:
    return _BITS[dtype]
  found = re.search(r"\d+", dtype)  # bf16, s32, f8e4m3fn
  return int(found[0]) if found else 0
