"""What the kernels of a GPU's program read and write besides matrix products and attention.

In the text of a program that XLA compiled for a GPU each instruction of the entry and of the loops'
bodies is a kernel: it reads its operands from memory and writes its results. Caches are left out.
"""

import re

from t5x_style.planning import hlo
from t5x_style.planning.collectives import KINDS

# Instructions that move no data themselves.
_FREE = frozenset({
  "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional",
  "after-all", "partition-id", "replica-id", "opt-barrier", "async-start", "async-update",
  "async-done", "copy-done", "iota",
})  # fmt: skip
_PRODUCTS = re.compile(r'custom_call_target="(__cublas|__cudnn|__cutlass)|__triton.*gemm')


def other_bytes(program: hlo.Program) -> int:
  """Returns the bytes that these kernels read and write in a step, on one device."""
  total = 0
  for name, times in hlo.scheduled(program).items():
    computation = program.computations[name]
    for instruction in computation.values():
      if _counts(program, instruction):
        total += times * _bytes(program, computation, instruction)
  return total


def _counts(program: hlo.Program, instruction: hlo.Instruction) -> bool:
  opcode = instruction.opcode
  sends = opcode.removesuffix("-start").removesuffix("-done") in KINDS
  if opcode in _FREE or sends or opcode in ("dot", "convolution"):
    return False
  if opcode == "custom-call":
    return not _PRODUCTS.search(instruction.rest)
  inside = [inner.opcode for _, inner in hlo.within(program, instruction)]
  return not {"dot", "convolution"} & set(inside)


def _bytes(
  program: hlo.Program, computation: dict[str, hlo.Instruction], instruction: hlo.Instruction
) -> int:
  """Returns the bytes of a kernel's operands and results, or of the part that it cuts out."""
  operands = [computation[x].shapes for x in instruction.operands if x in computation]
  sizes = [hlo.bytes_of(shapes) for shapes in operands]
  written = hlo.bytes_of(instruction.shapes)
  if instruction.opcode == "dynamic-slice":
    return 2 * written
  if instruction.opcode == "dynamic-update-slice":
    return 2 * sizes[1]
  if instruction.opcode != "fusion":
    return sum(sizes) + written
  (called,) = instruction.called("calls")[:1]
  return _fused_bytes(program.computations[called], sizes, written)


def _fused_bytes(fused: dict[str, hlo.Instruction], sizes: list[int], written: int) -> int:
  """Returns the bytes of a fusion: stacked arrays of a loop are read and updated in parts."""
  total = 0
  updated: set[str] = set()
  for instruction in fused.values():
    if instruction.opcode == "dynamic-update-slice" and instruction.operands:
      updated.add(instruction.operands[0])
      whole = hlo.bytes_of(instruction.shapes)
      part = fused.get(instruction.operands[1])
      written += (hlo.bytes_of(part.shapes) if part else 0) - whole
  for instruction in fused.values():
    if instruction.opcode != "parameter":
      continue
    found = re.match(r"(\d+)\)", instruction.rest)
    size = sizes[int(found[1])] if found and int(found[1]) < len(sizes) else 0
    users = [x for x in fused.values() if instruction.name in x.operands]
    if instruction.name in updated:
      users = [x for x in users if x.opcode != "dynamic-update-slice"]
      size = size if users else 0
    cuts = [x for x in users if x.opcode == "dynamic-slice" and x.operands[0] == instruction.name]
    if users and len(cuts) == len(users):
      size = sum(hlo.bytes_of(x.shapes) for x in users)
    total += size
  return total + max(0, written)
