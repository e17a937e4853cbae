"""Reports what the compiled step of a run needs and how fast it can be, as tables and as JSON."""

import dataclasses
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from t5x_style.partitioning import describe_mesh, device_bytes
from t5x_style.planning import collectives, compilation, hlo
from t5x_style.planning.layouts import layout_of_prepared
from t5x_style.planning.planner import Planner
from t5x_style.planning.roofline import Roofline
from t5x_style.planning.topologies import Topology
from t5x_style.training import setup
from t5x_style.training.step import compile_step

_WIDTH = 100  # characters of a line in a file or a pipe
_PARTS = {
  "compute": "matrix products at the peak",
  "hbm": "memory (an estimate)",
  "ici": "links of a slice",
  "dcn": "network between slices",
}


@dataclasses.dataclass(frozen=True)
class Report:
  """The step of a prepared run on a topology; bytes are those of one chip.

  Attributes:
    memory: {part: bytes}, e.g. of parameters.
    too_large: what the compiler reported about a step that does not fit; None of one that does.
    sent: collectives of the compiled program, or of the formula for a step that does not fit.
    kernels: number of calls of hand-written (Pallas) kernels in the program.
    alternatives: changes that fit by formula, for a step that does not.
  """

  prepared: setup.Prepared
  topology: Topology
  memory: Mapping[str, int]
  too_large: compilation.TooLarge | None
  roofline: Roofline
  sent: list[collectives.Collective]
  kernels: int
  compile_seconds: float
  alternatives: list[dict[str, Any]]

  @property
  def hbm_bytes(self) -> int:
    """Bytes that the step needs, from the compiler or else from the formula."""
    needed = self.too_large.needed if self.too_large else 0
    return max(needed, sum(self.memory.values()))

  @property
  def fits(self) -> bool:
    return self.too_large is None and self.hbm_bytes <= self.topology.chip.usable_hbm_bytes

  @property
  def tokens(self) -> int:
    """Tokens that the model reads in a step, padding included."""
    layout = layout_of_prepared(self.prepared)
    return self.prepared.config.batch_size * (layout.encoder_length + layout.decoder_length)

  @property
  def days(self) -> float:
    """The least days that all steps of the run take."""
    return self.prepared.config.train_steps * self.roofline.seconds / 86_400


def examine(prepared: setup.Prepared, topology: Topology) -> Report:
  """Compiles the step of a run that is prepared for a topology's devices; reads the program."""
  begun = time.perf_counter()
  compiled = compilation.compile_if_it_fits(functools.partial(compile_step, prepared))
  seconds = time.perf_counter() - begun
  layout = layout_of_prepared(prepared)
  planner = Planner(prepared.config, prepared.dataset, topology, layout.fused_attention)
  state = {
    "parameters": device_bytes(prepared.abstract.params),
    "optimizer state": device_bytes(prepared.abstract.opt_state),
  }
  if isinstance(compiled, compilation.TooLarge):
    estimate = planner.estimate(layout)
    memory = state | {"activations and temporaries (formula)": int(estimate.temporary_bytes)}
    sent, kernels, too_large = planner.collectives(layout), 0, compiled
  else:
    memory = state | _compiled_parts(compiled, sum(state.values()))
    program = hlo.parse(compiled.as_text() or "")
    devices = list(prepared.partitioner.mesh.devices.flat)
    sent, kernels, too_large = collectives.read(program, devices), len(_kernels(program)), None
  return Report(
    prepared=prepared,
    topology=topology,
    memory=memory,
    too_large=too_large,
    roofline=planner.roofline(layout, sent),
    sent=sent,
    kernels=kernels,
    compile_seconds=seconds,
    alternatives=planner.alternatives(layout, too_large) if too_large else [],
  )


def _compiled_parts(compiled: jax.stages.Compiled, state: int) -> dict[str, int]:
  memory = compilation.memory(compiled)
  assert memory is not None, "libtpu reports what a program needs"
  return {
    "batch and padding": memory.arguments - state,
    "activations and temporaries": memory.temporaries + memory.outputs,
    "program": memory.code,
  }


def _kernels(program: hlo.Program) -> list[hlo.Instruction]:
  """Returns the calls of Pallas kernels in a compiled program."""
  return [
    instruction
    for computation in program.computations.values()
    for instruction in computation.values()
    if instruction.opcode == "custom-call"
    and 'custom_call_target="tpu_custom_call"' in instruction.rest
  ]


def as_json(report: Report) -> dict[str, Any]:
  """Returns the report for programs; bytes are those of one chip, FLOPs of all chips together."""
  line, prepared = report.roofline, report.prepared
  return {
    "topology": report.topology.name,
    "slices": report.topology.slices,
    "chips": report.topology.chips,
    "mesh": dict(prepared.partitioner.mesh.shape),
    "parameters": prepared.num_parameters,
    "fits": report.fits,
    "hbm_bytes_per_chip": report.hbm_bytes,
    "hbm_limit_bytes": report.topology.chip.usable_hbm_bytes,
    "memory": dict(report.memory),
    "flops_per_step": prepared.step_flops,
    "predicted_step_seconds": line.seconds,
    "bound_by": line.bound_by,
    "roofline_seconds": {name: getattr(line, name) for name in _PARTS},
    "mfu_bound": line.mfu_bound,
    "tokens_per_step": report.tokens,
    "tokens_per_second": report.tokens / line.seconds,
    "train_steps": prepared.config.train_steps,
    "days": report.days,
    "chip_hours": 24 * report.days * report.topology.chips,
    "collectives": collectives.summary(report.sent),
    "collectives_by": "formula" if report.too_large else "compiled program",
    "kernels": report.kernels,
    "attention": {name: choice.name for name, choice in prepared.attention.items()},
    "compile_seconds": report.compile_seconds,
    "too_large": report.too_large and report.too_large._asdict(),
    "alternatives": report.alternatives,
  }


def show(report: Report, console: Console | None = None) -> None:
  """Prints the report as tables, ending with alternatives where the step does not fit."""
  console = console or Console()
  if not console.is_terminal:
    console.width = max(console.width, _WIDTH)

  def line(text: str = "", style: str = "") -> None:
    console.print(Text(text, style), highlight=False)

  title, details = _heading(report)
  line(title, "bold")
  line(details)
  line()
  console.print(_memory_table(report), highlight=False)
  line(*_verdict(report))
  line()
  console.print(_collectives_table(report), highlight=False)
  line()
  console.print(_time_table(report), highlight=False)
  for text in _outlook(report):
    line(text)
  if report.alternatives:
    line()
    line("What fits by the memory formula (not compiled), the fastest first:", "bold")
    for one in report.alternatives:
      line(
        f"  {one['change']:<48} {gib(one['hbm_bytes_per_chip']):>6} GiB   {one['seconds']:.3f} s"
      )


def _heading(report: Report) -> tuple[str, str]:
  """Returns what is compiled for which devices, and how the batch is computed."""
  config, mesh = report.prepared.config, report.prepared.partitioner.mesh
  title = (
    f"{report.prepared.num_parameters:,} parameters on {report.topology}: {describe_mesh(mesh)}"
  )
  kernels = f", {report.kernels} kernel calls" if report.kernels else ""
  return title, (
    f"batch {config.batch_size:,}, {report.tokens:,} tokens, {config.num_microbatches} "
    f"microbatches, remat {config.model.remat}; compiled in {report.compile_seconds:.0f} s{kernels}"
  )


def gib(count: float) -> str:
  """Returns bytes as GiB with two decimals."""
  return f"{count / 2**30:.2f}"


def _table(*headings: str) -> Table:
  table = Table(box=None, padding=(0, 1), header_style="cyan", pad_edge=False)
  for i, heading in enumerate(headings):
    table.add_column(heading, justify="right" if i else "left", style="" if i else "cyan")
  return table


def _memory_table(report: Report) -> Table:
  table, limit = _table("memory of a chip", "GiB", "share"), report.topology.chip.usable_hbm_bytes
  for name, size in report.memory.items():
    table.add_row(name, gib(size), f"{size / limit:.1%}")
  table.add_row("together", gib(report.hbm_bytes), f"{report.hbm_bytes / limit:.1%}")
  table.add_row(f"a {report.topology.chip.name} has", gib(limit), "")
  return table


def _verdict(report: Report) -> tuple[str, str]:
  """Returns whether the step fits, with its largest allocations if not, and a style of Rich."""
  if report.fits:
    return "It fits.", "bold green"
  too_large = report.too_large
  lines = ["It does not fit."]
  if too_large and too_large.needed:
    lines = [
      f"It does not fit: the compiler needs {gib(too_large.needed)} GiB, "
      f"the chip has {gib(too_large.available)} GiB."
    ]
  for size, what in (too_large.largest if too_large else ())[:3]:
    lines.append(f"  {gib(size)} GiB  {what}")
  largest = max(report.memory, key=lambda name: report.memory[name])
  lines.append(f"The largest part: {largest}, {gib(report.memory[largest])} GiB.")
  return "\n".join(lines), "bold red"


def _collectives_table(report: Report) -> Table:
  source = "by formula" if report.too_large else "of a step"
  table = _table(f"collectives {source}", "network", "count", "MiB", "MiB sent by a chip")
  for row in collectives.summary(report.sent):
    table.add_row(
      row["kind"],
      row["network"].upper(),
      f"{row['count']:,}",
      f"{row['bytes'] / 2**20:,.1f}",
      f"{row['wire_bytes'] / 2**20:,.1f}",
    )
  return table


def _time_table(report: Report) -> Table:
  table = _table("a step at the published rates", "seconds", "")
  for name, what in _PARTS.items():
    bound = "the slowest" if name == report.roofline.bound_by else ""
    table.add_row(what, f"{getattr(report.roofline, name):.4f}", bound)
  return table


def _outlook(report: Report) -> Iterator[str]:
  """Yields lines about the time of a step and of the whole run."""
  line, steps = report.roofline, report.prepared.config.train_steps
  yield (
    f"At least {line.seconds:.4f} s a step, at most {line.mfu_bound:.1%} MFU "
    f"({report.prepared.step_flops:.3g} FLOPs a step) and {report.tokens / line.seconds:,.0f} "
    "tokens/s."
  )
  yield (
    f"{steps:,} steps: at least {report.days:.2f} days, "
    f"{24 * report.days * report.topology.chips:,.0f} chip-hours."
  )
