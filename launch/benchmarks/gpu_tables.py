"""Tables in Markdown from the results of a GPU day: that of the README, and those of the notes."""

from collections.abc import Iterable, Mapping
from typing import Any

from . import fp8_rule, gpu_results

# {heading: (key, format)} of the tables that have a line for every row.
_COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
  "loss": {
    "ms": ("milliseconds", ",.1f"),
    "TFLOP/s": ("teraflops", ",.1f"),
    "of plain": ("time_ratio", ".2f"),
    "temporary MiB": ("temporary_mib", ",.0f"),
  },
  "attention": {
    "ms": ("milliseconds", ",.2f"),
    "TFLOP/s": ("teraflops", ",.1f"),
    "of plain": ("time_ratio", ".2f"),
    "temporary MiB": ("temporary_mib", ",.0f"),
    "error": ("error", ""),
  },
  "fp8": {
    "s/step": ("step_seconds", ".4f"),
    "TFLOP/s": ("tflops", ",.0f"),
    "compile s": ("compile_seconds", ",.0f"),
    "speedup": ("speedup", ".2f"),
  },
  "text": {
    "s": ("seconds", ",.0f"),
    "tokens/s": ("tokens_per_second", ",.0f"),
    "held-out loss": ("held_out_loss", ".4f"),
    "killed after step": ("killed_after", ",.0f"),
    "same losses": ("same", ""),
    "error": ("error", ""),
  },
  "predictions": {
    "GiB": ("predicted_gib", ",.2f"),
    "measured GiB": ("measured_gib", ",.2f"),
    "error": ("memory_error", "+.1%"),
    "s/step": ("expected_seconds", ".4f"),
    "measured s/step": ("measured_seconds", ".4f"),
    "its error": ("time_error", "+.1%"),
  },
  "decode": {
    "written tokens/s": ("decode_tokens_per_second", ",.0f"),
    "the peer's": ("peer_decode_tokens_per_second", ",.0f"),
    "our time / the peer's": ("ratio", ".2f"),
    "same tokens": ("same_tokens", ".0%"),
  },
}
_EAGER, _COMPILED = "against HF eager", "against HF compiled"


def text(content: Mapping[str, Any]) -> str:
  """Returns the tables of some results, and what was left out or failed."""
  parts = {name: part["rows"] for name, part in content["parts"].items()}
  blocks = [gpu_results.title(dict(content)) + "."]
  steps = [row for name, rows in parts.items() if name.startswith("step") for row in rows]
  if steps:
    blocks += ["## Training steps", _formulas(steps), readme(steps)]
  for name, columns in _COLUMNS.items():
    if rows := parts.get(name):
      table = _table(["", *columns], (_cells(row, columns) for row in rows))
      blocks += [f"## {name}", _formulas(rows), table]
  if not content["tiny"]:
    blocks += [f"FP8: {fp8_rule.of_rows(parts.get('fp8', []), parts.get('text', []))}"]
  for row in parts.get("tests", []):
    failed = f": {', '.join(row['failed'])}" if row["failed"] else ""
    counts = f"{row['passed']} passed, {row['skipped']} skipped, {len(row['failed'])} failed"
    blocks.append(f"Tests of kernels: {counts}{failed}.")
  for name, part in content["parts"].items():
    if part["outcome"] in ("failed", "ended"):
      blocks.append(f"{name} {part['outcome']}: {part['why']}.")
  return "\n\n".join(filter(None, [*blocks, gpu_results.left_out(dict(content))])) + "\n"


def readme(rows: Iterable[Mapping[str, Any]]) -> str:
  """Returns the README's table: a line for each shape, with its peers where there are some."""
  shapes: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
  for row in rows:
    shapes.setdefault((row["case"], row["rows"]), {})[row["label"]] = row
  lines = []
  for by_label in shapes.values():
    row = next(iter(by_label.values()))
    lines.append(
      [
        row["group"].partition(" (1 x ")[0],
        _shown(row["tokens_per_second"], ",.0f"),
        _shown(row["tflops"], ",.0f"),
        _shown(row["mfu"], ".1%"),
        *(_shown(by_label.get(peer, {}).get("ratio"), ".2f") for peer in (_EAGER, _COMPILED)),
      ]
    )
  headings = ["", "tokens/s", "TFLOP/s", "MFU", "our time / HF eager's"]
  return _table([*headings, "our time / HF + torch.compile's"], lines)


def _formulas(rows: Iterable[Mapping[str, Any]]) -> str:
  """Returns the formula that the FLOPs of some rows come from, "" if they have none."""
  found = dict.fromkeys(row["flop_formula"] for row in rows if row.get("flop_formula"))
  return "".join(f"FLOPs: {formula}." for formula in found)


def _cells(row: Mapping[str, Any], columns: Mapping[str, tuple[str, str]]) -> list[str]:
  name = f"{row['group'].partition(' (')[0]}: {row['label']}"
  return [name, *(_shown(row.get(key), spec) for key, spec in columns.values())]


def _shown(value: Any, spec: str) -> str:
  return "-" if value is None else format(value, spec)


def _table(headings: list[str], lines: Iterable[list[str]]) -> str:
  every = [headings, ["---"] * len(headings), *lines]
  return "\n".join(f"| {' | '.join(cells)} |" for cells in every)
