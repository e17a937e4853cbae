"""Measures a part of the package on this machine: python -m launch.benchmark loss

Each of BENCHMARKS is a module of launch/benchmarks that has
  measure(): yields a dict per row, as soon as it is measured, with at least "group" (the title of a
    table) and "label" (what the row is);
  COLUMNS: {key of a row: (heading, format)}, the values to show, in order; None is shown as "-";
  LABELS: all labels, which the width of the first column follows from;
  FLAGS, if it takes any: names of flags that are arguments of measure.
The first line of its docstring describes it. NOTES.md has what was measured and what was learnt.
"""

import importlib
import json
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from absl import flags as absl_flags

from .configuration import actions, flags
from .process import command, environment, errors

EXAMPLES = """\
python -m launch.benchmark loss
python -m launch.benchmark loss --json > loss.jsonl
python -m launch.benchmark step --against=hf
python -m launch.benchmark decode --against=hf
python -m launch.benchmark step --gin_file=quickstart.gin --gin.BATCH_SIZE=32
python -m launch.benchmark step --against=t5x --t5x_source=clones/t5x --case=T5
python -m launch.benchmark startup --gin_file=my_run.gin
python -m launch.benchmark gpu --minutes=10 --to=gpu_day    (all that a GPU is needed for)
JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 python -m launch.benchmark loss    (libtpu on a CPU)"""

# Modules of launch/benchmarks; the other files there are parts of these.
BENCHMARKS = (
  *("attention", "data", "decode", "dial", "finetune", "fp8", "gpu", "loss", "predictions"),
  *("products", "reads", "startup", "step", "text", "transfer"),
)

# Flags that some of the benchmarks take, each with the names of these.
_TEXTS = {
  "against": "step, decode: the peer to compare with: hf is Hugging Face; step: t5x is T5X.",
  "t5x_source": "step --against=t5x: a clone of T5X, or a folder of its network.py and layers.py.",
  "case": "step, decode, dial: only the case whose name begins so.",
  "roofline": "step: the PNG file of a roofline plot of the rows.",
  "profile": "step: a folder for a profile of two steps of each case.",
  "to": "gpu, text: the folder of the results.",
  "parts": "gpu: only these parts, with commas.",
  "records": "transfer, dial: the file of finished runs; by default model_dirs/NAME.jsonl.",
}
_NUMBERS = {
  "seconds": "step, decode: how long the rounds of a case take, at least five rounds.",
  "minutes": "gpu: the limit of everything together.",
}

_CELL = 9  # characters of a column, at least


def main(argv: Sequence[str]) -> None:
  about = actions.descriptions("benchmarks", BENCHMARKS)
  lines = actions.listed(about)
  values, words = flags.parse_own(
    argv,
    about=f"Measures a part of the package on this machine.\n\nBenchmarks:\n{lines}",
    examples=EXAMPLES,
    define=_define,
  )
  if len(words) != 1 or words[0] not in about:
    hint = errors.did_you_mean(words[0], about) if words else ""
    raise errors.ConfigurationError(
      f"There is no benchmark {' '.join(words)!r}.{hint} Name one of: {', '.join(about)}."
    )
  environment.prepare()
  if values.against:
    environment.share_memory()
  with environment.quiet_imports():
    module = importlib.import_module(f"{environment.PACKAGE}.benchmarks.{words[0]}")
  rows = module.measure(**_arguments(values, words[0], getattr(module, "FLAGS", ())))
  if values.json:
    for row in rows:
      print(json.dumps(row), flush=True)
  else:
    print(about[words[0]], flush=True)
    show(module, rows)


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_bool(
    "json", False, "One JSON object per line, for programs.", flag_values=values
  )
  flags.define_gin(values)
  for name, about in _TEXTS.items():
    absl_flags.DEFINE_string(name, None, about, flag_values=values)
  for name, about in _NUMBERS.items():
    absl_flags.DEFINE_float(name, None, about, lower_bound=0.0, flag_values=values)
  absl_flags.DEFINE_bool(
    "tiny", False, "Tiny models and arrays, to try the command itself.", flag_values=values
  )


def _arguments(values: Any, name: str, taken: Sequence[str]) -> dict[str, Any]:
  """Returns the flags that a benchmark takes.

  Raises:
    ConfigurationError: a flag is given that it does not take.
  """
  own = {"gin_file", "gin_bindings", "gin_search_paths", "tiny", *_TEXTS, *_NUMBERS}
  for flag in sorted(own - set(taken)):
    if getattr(values, flag):
      raise errors.ConfigurationError(
        f"The benchmark {name} takes no --{flag}; leave it out, or run another one (--help)."
      )
  return {flag: getattr(values, flag) for flag in taken}


def show(module: ModuleType, rows: Iterable[dict[str, Any]]) -> None:
  """Prints each row as soon as it is measured, one table per group."""
  label_width = max(map(len, module.LABELS))
  widths = [max(_CELL, len(heading)) for heading, _ in module.COLUMNS.values()]
  headings = [heading for heading, _ in module.COLUMNS.values()]
  group = None
  for row in rows:
    if row["group"] != group:
      group = row["group"]
      print(f"\n{group}\n{_line('', label_width, headings, widths)}", flush=True)
    cells = [
      "-" if row.get(key) is None else format(row[key], spec)
      for key, (_, spec) in module.COLUMNS.items()
    ]
    print(_line(row["label"], label_width, cells, widths), flush=True)


def _line(label: str, label_width: int, cells: Sequence[str], widths: Sequence[int]) -> str:
  columns = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
  return f"  {label:<{label_width}} {' '.join(columns)}"


if __name__ == "__main__":
  environment.take_large_pages()
  command.run(main)
