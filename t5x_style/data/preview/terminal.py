"""A preview as text in the terminal."""

from collections.abc import Mapping

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from t5x_style.data.preview.colours import coloured, legend
from t5x_style.data.preview.contents import Contents, shrunk
from t5x_style.data.preview.measure import Preview
from t5x_style.data.preview.spans import sections

_SHOWN_TOKENS = 160
_CELLS = 24  # of the picture of an attention mask, in each direction
_BARS = " ▁▂▃▄▅▆▇█"


def show(contents: Contents, console: Console) -> None:
  """Prints examples, pictures of attention, the table of figures and remarks."""

  def line(text: str | Text = "", style: str = "") -> None:
    text = Text(text, style) if isinstance(text, str) else text
    console.print(text, soft_wrap=False, highlight=False, overflow="fold")

  line(contents.title, "bold")
  line(legend())
  for part in contents.components:
    for number, example in enumerate(part.examples, 1):
      line(f"\n{part.name}, example {number}", "bold")
      for name, tokens in sections(example):
        line()
        line(name, "cyan")
        line(coloured(tokens, contents.dataset.ids, _SHOWN_TOKENS))
      if number == 1:
        for text in _pictures(contents.attention(example.features)):
          line(text)
  line()
  console.print(_table(contents), highlight=False)
  for part in contents.components:
    if text := _histogram(part):
      line(text)
  for text in contents.remarks():
    line(text)


def _pictures(masks: Mapping[str, np.ndarray]) -> list[str]:
  """Attention masks side by side; a line of text shows two rows of cells."""
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


def _table(contents: Contents) -> Table:
  table = Table(box=None, padding=(0, 1), header_style="cyan", pad_edge=False)
  table.add_column("", style="cyan", no_wrap=True)
  for name, _ in contents.columns:
    table.add_column(name, justify="right", overflow="fold")
  for heading, cells in contents.figures():
    table.add_row(heading, *cells)
  return table


def _histogram(part: Preview) -> str:
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
