"""Shows what a run feeds its model: python -m launch.preview --gin_file=quickstart.gin

Real rows of the run's data before and after the objective, who attends to whom, and what it comes
to: tokens read and predicted, corruption, spans, packing, speed.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags as absl_flags
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .configuration import errors, flags
from .process import command, environment

EXAMPLES = """\
python -m launch.preview --gin_file=quickstart.gin
python -m launch.preview --gin_file=my_run.gin --html=preview.html
python -m launch.preview --gin_file=my_run.gin --json | jq .signal_density"""

MEANINGS = {
  "kept": "kept",
  "hidden": "hidden from the model",
  "masked": "[MASK]",
  "randomised": "another token instead",
  "sentinel": "sentinel",
  "mode": "mode",
  "special": "special",
  "padding": "padding",
}
_STYLES = {
  "kept": "",
  "hidden": "yellow",
  "masked": "bold yellow",
  "randomised": "bold magenta",
  "sentinel": "bold cyan",
  "mode": "bold green",
  "special": "blue",
  "padding": "dim",
}
FIGURES = {
  "rate": ("share of rows", ".1%"),
  "raw_tokens": ("raw tokens", ",.1f"),
  "input_tokens": ("tokens read", ",.1f"),
  "target_tokens": ("tokens with loss", ",.1f"),
  "signal_density": ("signal density", ".1%"),
  "corruption_rate": ("corruption rate", ".1%"),
  "mean_span_length": ("mean span length", ".2f"),
  "unknown_text": ("unknown text", ".1%"),
  "packing_density": ("packing density", ".1%"),
  "tokens_per_second": ("raw tokens/s", ",.0f"),
}
_SHOWN_TOKENS = 160
_CELLS = 24  # of the picture of an attention pattern, each way, in the terminal
_FILE_WIDTH = 110
_BARS = " ▁▂▃▄▅▆▇█"


class Run(NamedTuple):
  """A span of text of one look."""

  text: str
  kind: str
  has_loss: bool


def main(argv: Sequence[str]) -> None:
  values = flags.parse(
    argv,
    about="Shows what a run feeds its model, and measures it.",
    examples=EXAMPLES,
    define=_define,
    runs_model=False,
  )
  environment.prepare()
  with errors.as_configuration_errors():
    page = _page_path(values.html)
    settings = flags.read_configuration(values)

    from t5x_style.data import loader
    from t5x_style.data.preview import measure
    from t5x_style.training import setup, train_config

    config = settings.build(train_config.TrainConfig)
    dataset = config.dataset(
      architecture=config.model.architecture,
      batch_size=config.batch_size,
      seed=config.seed,
      process_index=0,
      process_count=1,
    )
    if not isinstance(dataset, loader.Dataset):
      raise errors.ConfigurationError(
        f"The dataset {type(dataset).__name__} has no text to show; "
        "train_config.TrainConfig.dataset must be @loader.load (gin_configs/data/loading.gin)."
      )
    setup.check_vocabulary(config, dataset.vocab_size)
  shown = measure.preview(dataset, values.examples, seconds=values.seconds)
  if page:
    from . import preview_page

    page.write_text(preview_page.page(shown, dataset, config.model.architecture), "utf-8")
  if values.json:
    json.dump(_json(shown, dataset, config.model.architecture), sys.stdout)
    print()
  else:
    console = Console()
    if not console.is_terminal:
      console.width = max(console.width, _FILE_WIDTH)
    show(shown, dataset, config.model.architecture, console)
    if page:
      print(f"\nThe same as a page: {page}")


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_string(
    "html", None, "A file to write: everything as one page of its own.", flag_values=values
  )
  absl_flags.DEFINE_bool("json", False, "One JSON object, for programs.", flag_values=values)
  absl_flags.DEFINE_integer(
    "examples", 1, "Rows to show, of each component.", lower_bound=0, flag_values=values
  )
  absl_flags.DEFINE_float(
    "seconds",
    5.0,
    "For how long to measure a component, at most.",
    lower_bound=0.1,
    flag_values=values,
  )


def _page_path(name: str | None) -> Path | None:
  if name is None:
    return None
  path = Path(os.path.expanduser(name))
  if not name or path.is_dir() or not path.parent.is_dir():
    raise errors.ConfigurationError(
      f"--html={name} is no file in a directory that exists; write e.g. --html=preview.html."
    )
  return path


def _json(shown: Any, dataset: Any, architecture: str) -> dict[str, Any]:
  lengths = dict(dataset.pipeline.lengths)
  return {"architecture": architecture, "feature_lengths": lengths, **shown.json()}


def show(shown: Any, dataset: Any, architecture: str, console: Console) -> None:
  """Prints a t5x_style.data.preview.measure.Preview."""

  def line(text: str | Text = "", style: str = "") -> None:
    text = Text(text, style) if isinstance(text, str) else text
    console.print(text, soft_wrap=False, highlight=False, overflow="fold")

  line(title(shown, dataset, architecture), "bold")
  line(_legend())
  for part in shown.components or (shown,):
    for number, example in enumerate(part.examples, 1):
      line(f"\n{part.name}, example {number}", "bold")
      for name, tokens in sections(example):
        line()
        line(name, "cyan")
        line(_coloured(tokens, dataset.vocabulary))
      if number == 1:
        for text in _pictures(attention(example.features)):
          line(text)
  line()
  console.print(_table(shown), highlight=False)
  for part in shown.components or (shown,):
    if text := _histogram(part):
      line(text)
  for text in remarks(shown):
    line(text)


def title(shown: Any, dataset: Any, architecture: str) -> str:
  """What is shown: objective, architecture, lengths."""
  lengths = ", ".join(f"{name} {n}" for name, n in dataset.pipeline.lengths.items())
  return f"{shown.name}, {architecture.replace('_', '-')}, {lengths}"


def sections(example: Any) -> Iterator[tuple[str, Any]]:
  """(heading, tokens) of what there is to see of an example."""
  if example.raw is not None:
    yield f"text, {len(example.raw.ids)} tokens", example.raw
  yield f"inputs, {len(example.inputs.ids)} tokens", example.inputs
  loss = sum(weight > 0 for weight in example.targets.weights)
  yield f"targets, {len(example.targets.ids)} tokens, {loss} with loss", example.targets


def runs(tokens: Any, vocabulary: Any, limit: int | None = None) -> Iterator[Run]:
  """Neighbours of the same kind as one text; control characters are written out."""
  from t5x_style.data.tokenizers import token_text

  stop = len(tokens.ids) if limit is None else min(limit, len(tokens.ids))
  looks = [(tokens.kinds[i], tokens.weights[i] > 0) for i in range(stop)]
  start = 0
  for i in range(1, stop + 1):
    if i == stop or looks[i] != looks[start]:
      ids = tokens.ids[start:i]
      kind, has_loss = looks[start]
      text = token_text.decode_visible(vocabulary, ids)
      text = "·" * len(ids) if kind == "padding" else text
      safe = (c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
      yield Run("".join(safe), kind, has_loss)
      start = i
  if stop < len(tokens.ids):
    yield Run(f" ... and {len(tokens.ids) - stop} more", "padding", False)


def attention(features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """{side: bool [L, L], who (rows) may see whom (columns)} of one row of model features."""
  import jax.numpy as jnp

  from t5x_style.models import decoder_pattern, encoder_pattern

  batch = {name: jnp.asarray(value)[None] for name, value in features.items()}
  masks = {}
  for side, pattern in (("encoder", encoder_pattern), ("decoder", decoder_pattern)):
    if f"{side}_input_tokens" in batch:
      length = batch[f"{side}_input_tokens"].shape[1]
      mask = np.asarray(pattern(batch).mask(length, length))
      masks[side] = np.broadcast_to(mask, (1, 1, length, length))[0, 0]
  return masks


def shrunk(mask: np.ndarray, cells: int) -> np.ndarray:
  """Bool [<= cells, <= cells]: whether most of what a cell stands for is seen."""
  edges = np.linspace(0, len(mask), min(cells, len(mask)) + 1).round().astype(int)
  sums = np.add.reduceat(np.add.reduceat(mask.astype(float), edges[:-1], 0), edges[:-1], 1)
  sizes = np.diff(edges)
  return sums >= sizes[:, None] * sizes[None, :] / 2


def remarks(shown: Any) -> list[str]:
  """What was skipped, and what the vocabulary cannot spell, in words."""
  lines = []
  if skipped := shown.values().get("skipped"):
    documents = max(skipped["documents"], 1)
    lines.append(
      f"of {skipped['documents']:,} documents read {skipped['short']:,} "
      f"({skipped['short'] / documents:.1%}) had too little text, {skipped['repaired']:,} were not "
      f"UTF-8; {skipped['windows']:,} windows had nothing to predict. No text is cut off: "
      "documents run on from one window into the next."
    )
  if shown.coverage and (text := shown.coverage.remark()):
    lines.append(f"{text}.")
  return lines


def _legend() -> Text:
  parts = [Text(MEANINGS[kind], _STYLES[kind]) for kind in MEANINGS]
  return Text("  ").join([*parts, Text("with loss", "underline")])


def _coloured(tokens: Any, vocabulary: Any) -> Text:
  text = Text()
  for run in runs(tokens, vocabulary, _SHOWN_TOKENS):
    style = f"{_STYLES[run.kind]} {'underline' if run.has_loss else ''}".strip()
    text.append(run.text.replace("\n", "↵ ").replace("\t", "→"), style)
  return text


def _pictures(masks: Mapping[str, np.ndarray]) -> list[str]:
  """Attention patterns beside each other, two rows of cells in a line."""
  blocks = []
  for side, mask in masks.items():
    cells = shrunk(mask, _CELLS)
    cells = np.pad(cells, [(0, len(cells) % 2), (0, 0)])
    halves = [
      " ▄▀█"[2 * int(a) + int(b)] for a, b in zip(cells[0::2].flat, cells[1::2].flat, strict=True)
    ]
    width = cells.shape[1]
    lines = ["".join(halves[i : i + width]) for i in range(0, len(halves), width)]
    blocks.append([f"{side + ' attention':<{width}}", *lines])
  height = max(map(len, blocks))
  blocks = [[*b, *[" " * len(b[-1])] * (height - len(b))] for b in blocks]
  return ["", *("    ".join(parts).rstrip() for parts in zip(*blocks, strict=True))]


def _table(shown: Any) -> Table:
  table = Table(box=None, padding=(0, 1), header_style="cyan", pad_edge=False)
  table.add_column("", style="cyan", no_wrap=True)
  parts = (*shown.components, shown)
  for part in parts:
    name = "all" if part is shown and shown.components else part.name
    table.add_column(name, justify="right", overflow="fold")
  for heading, cells in figures(parts):
    table.add_row(heading, *cells)
  return table


def figures(parts: Sequence[Any]) -> Iterator[tuple[str, list[str]]]:
  """(heading, a cell for each part) of the table."""
  values = [{"rate": part.rate, **part.values()} for part in parts]
  for key, (heading, spec) in FIGURES.items():
    yield heading, ["?" if v[key] is None else format(v[key], spec) for v in values]


def _histogram(part: Any) -> str:
  lengths = part.values()["span_lengths"]
  if not lengths:
    return ""
  longest = max(lengths)
  step = -(-longest // 40)
  shares = [
    sum(lengths.get(n, 0.0) for n in range(first, first + step))
    for first in range(1, longest + 1, step)
  ]
  bars = "".join(_BARS[max(1, round(8 * s / max(shares)))] if s else " " for s in shares)
  return f"spans of {part.name}, 1 to {longest} tokens: {bars}"


if __name__ == "__main__":
  command.run(main)
