"""Searches the mesh, microbatches and remat policy for a run: by formula, then by compiling."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from rich.console import Console
from rich.table import Table
from rich.text import Text

from t5x_style.errors import UserError
from t5x_style.planning import precompile_report
from t5x_style.planning.layouts import Layout, with_layout
from t5x_style.planning.planner import MARGIN, Estimate, Planner
from t5x_style.planning.topologies import Topology
from t5x_style.training import setup, train_config

_SHOWN = 16  # rows of the table


class Candidate(NamedTuple):
  """A layout that was ranked by formula, and the report on its program if it was compiled."""

  estimate: Estimate
  report: precompile_report.Report | None

  @property
  def seconds(self) -> float:
    return (self.report or self.estimate).roofline.seconds

  @property
  def bytes(self) -> float:
    return self.report.hbm_bytes if self.report else self.estimate.bytes

  @property
  def compiles(self) -> bool:
    """Whether it was compiled and fits."""
    return self.report is not None and self.report.fits


class SearchResult(NamedTuple):
  """The layouts of a run, the best ones compiled.

  Attributes:
    tried: number of layouts that were estimated by formula.
    compiled: the candidates that were compiled; those that fit come first, the fastest first.
    others: the candidates that were not.
  """

  topology: Topology
  tried: int
  compiled: list[Candidate]
  others: list[Candidate]

  @property
  def winner(self) -> Candidate | None:
    """The fastest candidate that was compiled and fits, None if there is none."""
    fitting = [c for c in self.compiled if c.compiles]
    return min(fitting, key=lambda c: c.seconds, default=None)


def search(
  config: train_config.TrainConfig,
  topology: Topology,
  devices: Sequence[jax.Device],
  compiles: int,
  price: float | None = None,
) -> SearchResult:
  """Ranks every layout by formula and compiles the best ones that should fit.

  Args:
    devices: of the topology; empty without libtpu, then fused attention kernels are not considered.
    compiles: how many candidates that fit are wanted; at most twice as many are compiled.
    price: of a chip for an hour.

  Raises:
    UserError: no mesh of the topology divides the batch.
  """
  dataset = config.dataset(
    architecture=config.model.architecture,
    batch_size=config.batch_size,
    seed=config.seed,
    process_index=0,
    process_count=1,
  )
  config = dataclasses.replace(config, dataset=lambda *_, **__: dataset)  # It is loaded only once.
  ranked = _ranked(Planner(config, dataset, topology), devices)
  compiled: list[Candidate] = []
  for estimate in ranked:
    if sum(c.compiles for c in compiled) >= compiles or len(compiled) >= 2 * compiles:
      break
    prepared = setup.prepare(with_layout(config, estimate.layout), devices)
    report = precompile_report.examine(prepared, topology, price)
    compiled.append(Candidate(estimate, report))
  compiled.sort(key=lambda c: (not c.compiles, c.seconds))
  done = {id(c.estimate) for c in compiled}
  others = [Candidate(e, None) for e in ranked if id(e) not in done]
  return SearchResult(topology, len(ranked), compiled, others)


def _ranked(planner: Planner, devices: Sequence[jax.Device]) -> list[Estimate]:
  """Returns the estimates of all layouts: those that should fit come first, the fastest first."""
  topology, batch_size = planner.topology, planner.config.batch_size
  fused: dict[tuple[int, int], bool] = {}

  def with_kernels(layout: Layout) -> Layout:
    # Whether a fused kernel can compute the attention depends on how heads and lengths are split.
    split = layout.mesh["tensor"], layout.mesh["sequence"]
    if devices and split not in fused:
      fused[split] = planner.fused_attention(layout, devices)
    return dataclasses.replace(layout, fused_attention=fused.get(split, False))

  estimates = [planner.estimate(with_kernels(layout)) for layout in planner.layouts()]
  if not estimates:
    near = topology.chips * max(1, batch_size // topology.chips)
    raise UserError(
      f"BATCH_SIZE = {batch_size} divides over no mesh of the {topology.chips} chips of "
      f"{topology}; set e.g. BATCH_SIZE = {near}."
    )
  limit = MARGIN * topology.chip.usable_hbm_bytes
  return sorted(estimates, key=lambda e: (e.bytes > limit, e.roofline.seconds, e.bytes))


def gin_text(found: SearchResult) -> str:
  """Returns the winner as the text of a gin file that has to be included last.

  Raises:
    UserError: no candidate that was compiled fits.
  """
  winner = found.winner
  if winner is None:
    raise UserError("Nothing that was compiled fits: there is no winner to write.")
  layout = winner.estimate.layout
  mesh = {axis: size for axis, size in layout.mesh.items() if size > 1} or {"data": 1}
  return (
    f"# Found by launch.precompile --search for {found.topology}: include it last. "
    f"{winner.bytes / 2**30:.2f} GiB a chip, at least {winner.seconds:.4f} s a step.\n"
    f"MESH_SHAPE = {mesh}\nNUM_MICROBATCHES = {layout.microbatches}\nREMAT = {layout.remat!r}\n"
  )


def write(found: SearchResult, name: str) -> None:
  """Writes the winner to a gin file; raises as gin_text."""
  Path(os.path.expanduser(name)).write_text(gin_text(found))


def as_json(found: SearchResult) -> dict[str, Any]:
  """Returns the ranking for programs; bytes are those of one chip."""

  def row(candidate: Candidate) -> dict[str, Any]:
    layout = candidate.estimate.layout
    fits = found.topology.chip.usable_hbm_bytes >= candidate.bytes
    return {
      "mesh": dict(layout.mesh),
      "microbatches": layout.microbatches,
      "remat": layout.remat,
      "hbm_bytes_per_chip": int(candidate.bytes),
      "fits": candidate.report.fits if candidate.report else fits,
      "predicted_step_seconds": (candidate.report or candidate).seconds,  # that of money
      "least_step_seconds": candidate.seconds,
      "mfu_bound": (candidate.report or candidate.estimate).roofline.mfu_bound,
      "checked_by": "compiler" if candidate.report else "formula",
      "money": candidate.report and candidate.report.money,
    }

  return {
    "topology": found.topology.name,
    "slices": found.topology.slices,
    "chips": found.topology.chips,
    "hbm_limit_bytes": found.topology.chip.usable_hbm_bytes,
    "tried": found.tried,
    "winner": row(found.winner) if found.winner else None,
    "candidates": [row(c) for c in (*found.compiled, *found.others)],
  }


def show(found: SearchResult, console: Console | None = None) -> None:
  """Prints the ranking, compiled candidates first; those that do not fit are struck out."""
  console = console or Console()
  if not console.is_terminal:
    console.width = max(console.width, 100)
  console.print(
    Text(f"{found.tried:,} layouts on {found.topology}, {len(found.compiled)} compiled", "bold")
  )
  table = Table(box=None, padding=(0, 1), header_style="cyan", pad_edge=False)
  for heading in ("mesh", "microbatches", "remat", "GiB a chip", "at least s", "MFU at most", "by"):
    table.add_column(heading, justify="left" if heading in ("mesh", "remat", "by") else "right")
  for row in as_json(found)["candidates"][:_SHOWN]:
    mesh = " x ".join(f"{axis}={size}" for axis, size in row["mesh"].items() if size > 1)
    style = "" if row["fits"] else "strike dim"
    best = found.winner is not None and row == as_json(found)["winner"]
    table.add_row(
      mesh or "one device",
      str(row["microbatches"]),
      row["remat"],
      f"{row['hbm_bytes_per_chip'] / 2**30:.2f}",
      f"{row['least_step_seconds']:.4f}",
      f"{row['mfu_bound']:.1%}",
      row["checked_by"] + ("" if row["fits"] else ", too large"),
      style="bold green" if best else style,
    )
  console.print(table, highlight=False)
  if found.winner and found.winner.report:
    for line in precompile_report.outlook(found.winner.report):
      console.print(Text(line), highlight=False)
