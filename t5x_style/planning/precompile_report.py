"""Reports what the compiled step of a run needs and how fast it can be, as tables and as JSON."""

import dataclasses
import functools
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from t5x_style.hardware import gpu_memory_share
from t5x_style.partitioning import describe_mesh, device_bytes
from t5x_style.planning import collectives, compilation, hlo, kernel_traffic
from t5x_style.planning.layouts import layout_of_prepared
from t5x_style.planning.planner import Planner
from t5x_style.planning.roofline import Roofline
from t5x_style.planning.topologies import Topology
from t5x_style.training import setup
from t5x_style.training.step import compile_step

_WIDTH = 100  # characters of a line in a file or a pipe
_PARTS = {
  "tpu": {
    "compute": "matrix products at the peak",
    "hbm": "memory (an estimate)",
    "ici": "links of a slice",
    "dcn": "network between slices",
  },
  "gpu": {
    "compute": "matrix products at the peak",
    "hbm": "memory (an estimate)",
    "ici": "NVLink in a node",
    "dcn": "InfiniBand between nodes",
  },
}
_NETWORKS = {"tpu": {"ici": "ICI", "dcn": "DCN"}, "gpu": {"ici": "NVLink", "dcn": "InfiniBand"}}


@dataclasses.dataclass(frozen=True)
class Report:
  """The step of a prepared run on a topology; bytes are those of one chip.

  Attributes:
    memory: {part: bytes}, e.g. of parameters.
    too_large: what the compiler reported about a step that does not fit; None of one that does.
    compiled: whether there is a program. TPUs' compiler makes none that does not fit.
    sent: collectives of the compiled program, or else of the formula.
    kernels: number of calls of hand-written kernels (Pallas, cuDNN's attention) in the program.
    alternatives: changes that fit by formula, for a step that does not.
    price: of a chip for an hour, in any currency; None if it was not given.
  """

  prepared: setup.Prepared
  topology: Topology
  memory: Mapping[str, int]
  too_large: compilation.TooLarge | None
  compiled: bool
  roofline: Roofline
  sent: list[collectives.Collective]
  kernels: int
  compile_seconds: float
  alternatives: list[dict[str, Any]]
  price: float | None = None

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
  def seconds(self) -> float:
    """Seconds of a step: those that are expected of this device, else the least by its rates."""
    return self.roofline.expected or self.roofline.seconds

  @property
  def days(self) -> float:
    """Days that all steps of the run take, evaluations and saves not counted."""
    return self.prepared.config.train_steps * self.seconds / 86_400

  @property
  def money(self) -> dict[str, float] | None:
    """What a step, 10^9 tokens and all steps of the run cost; None without a price."""
    if self.price is None:
      return None
    step = self.price * self.topology.chips * self.seconds / 3600
    steps = self.prepared.config.train_steps
    return {"step": step, "billion_tokens": 1e9 * step / self.tokens, "run": steps * step}


def examine(prepared: setup.Prepared, topology: Topology, price: float | None = None) -> Report:
  """Compiles the step of a run that is prepared for a topology's devices; reads the program.

  Args:
    price: of a chip for an hour.
  """
  begun = time.perf_counter()
  compiled = compilation.compile_if_it_fits(functools.partial(compile_step, prepared))
  seconds = time.perf_counter() - begun
  layout = layout_of_prepared(prepared)
  planner = Planner(prepared.config, prepared.dataset, topology, layout.fused_attention)
  state = {
    "parameters": device_bytes(prepared.abstract.params),
    "optimizer state": device_bytes(prepared.abstract.opt_state),
  }
  too_large, kernels, other_bytes = None, 0, None
  if isinstance(compiled, compilation.TooLarge):
    estimate = planner.estimate(layout)
    memory = state | {"activations and temporaries (formula)": int(estimate.temporary_bytes)}
    sent, too_large = planner.collectives(layout), compiled
  else:
    memory = state | _compiled_parts(compiled, sum(state.values()))
    program = hlo.parse(compiled.as_text() or "")
    devices = list(prepared.partitioner.mesh.devices.flat)
    sent, kernels = collectives.read(program, devices), len(_kernels(program))
    if topology.platform == "gpu":  # Its compiler makes programs that do not fit, too.
      other_bytes = kernel_traffic.other_bytes(program)
      too_large = compilation.exceeding(sum(memory.values()), topology.chip.usable_hbm_bytes)
  return Report(
    prepared=prepared,
    topology=topology,
    memory=memory,
    too_large=too_large,
    compiled=not isinstance(compiled, compilation.TooLarge),
    roofline=planner.roofline(layout, sent, other_bytes),
    sent=sent,
    kernels=kernels,
    compile_seconds=seconds,
    alternatives=planner.alternatives(layout, too_large) if too_large else [],
    price=price,
  )


def _compiled_parts(compiled: jax.stages.Compiled, state: int) -> dict[str, int]:
  memory = compilation.memory(compiled)
  assert memory is not None, "the compilers for TPUs and GPUs report what a program needs"
  return {
    "batch and padding": memory.arguments - state,
    "activations and temporaries": memory.temporaries + memory.outputs,
    "program": memory.code,
  }


def _kernels(program: hlo.Program) -> list[hlo.Instruction]:
  """Returns the calls of Pallas kernels, or of cuDNN's attention, in a compiled program."""
  return [
    instruction
    for computation in program.computations.values()
    for instruction in computation.values()
    if instruction.opcode == "custom-call"
    and re.search(r'custom_call_target="(tpu_custom_call|__cudnn\$fmha)', instruction.rest)
  ]


def as_json(report: Report) -> dict[str, Any]:
  """Returns the report for programs; bytes are those of one chip, FLOPs of all chips together.

  tokens_per_second, days, chip_hours and money are those of predicted_step_seconds, which is more
  than least_step_seconds where it is known what steps took on such a device; mfu_bound is that of
  least_step_seconds.
  """
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
    "predicted_step_seconds": report.seconds,
    "least_step_seconds": line.seconds,
    "bound_by": line.bound_by,
    "roofline_seconds": {name: getattr(line, name) for name in _PARTS["tpu"]},
    "other_kernels_seconds": line.others,
    "mfu_bound": line.mfu_bound,
    "tokens_per_step": report.tokens,
    "tokens_per_second": report.tokens / report.seconds,
    "train_steps": prepared.config.train_steps,
    "days": report.days,
    "chip_hours": 24 * report.days * report.topology.chips,
    "price_per_chip_hour": report.price,
    "money": report.money,
    "collectives": collectives.summary(report.sent),
    "collectives_by": "compiled program" if report.compiled else "formula",
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
  for text in outlook(report):
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
  gpu = report.topology.platform == "gpu"
  has = f"JAX takes ({gpu_memory_share():.0%})" if gpu else f"a {report.topology.chip.name} has"
  table.add_row(has, gib(limit), "")
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
  source = "of a step" if report.compiled else "by formula"
  table = _table(f"collectives {source}", "network", "count", "MiB", "MiB sent by a chip")
  for row in collectives.summary(report.sent):
    table.add_row(
      row["kind"],
      _NETWORKS[report.topology.platform][row["network"]],
      f"{row['count']:,}",
      f"{row['bytes'] / 2**20:,.1f}",
      f"{row['wire_bytes'] / 2**20:,.1f}",
    )
  return table


def _time_table(report: Report) -> Table:
  table = _table("a step at the published rates", "seconds", "")
  for name, what in _PARTS[report.topology.platform].items():
    bound = "the slowest" if name == report.roofline.bound_by else ""
    table.add_row(what, f"{getattr(report.roofline, name):.4f}", bound)
  return table


def outlook(report: Report) -> Iterator[str]:
  """Yields lines about the time of a step and of the whole run."""
  line, steps = report.roofline, report.prepared.config.train_steps
  yield (
    f"At least {line.seconds:.4f} s a step, at most {line.mfu_bound:.1%} MFU "
    f"({report.prepared.step_flops:.3g} FLOPs a step) and {report.tokens / line.seconds:,.0f} "
    "tokens/s."
  )
  least = "at least "
  if line.expected:
    least = "about "
    yield (
      f"Expected: {line.expected:.4f} s a step, {line.model_compute / line.expected:.1%} MFU, "
      f"{report.tokens / line.expected:,.0f} tokens/s; from what steps took on one "
      f"{report.topology.chip.name.upper()}, and nothing lost to the network."
    )
  yield (
    f"{steps:,} steps: {least}{report.days:.2f} days, "
    f"{24 * report.days * report.topology.chips:,.0f} chip-hours."
  )
  if money := report.money:
    yield (
      f"At {report.price:g} a chip and hour: {least}{money['step']:,.4g} a step, "
      f"{money['billion_tokens']:,.2f} for 10^9 tokens (padding included), {money['run']:,.0f} for "
      "the whole run."
    )
