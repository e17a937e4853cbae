"""One page of HTML that is complete in itself: it needs no script, no font, no other file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.results.charts import COLORS, Chart
from t5x_style.results.numbers import cell_text

_TEMPLATES = Path(__file__).parent / "templates"
_NUMBER = re.compile(r"[<≤≥~±+−-]?\s?[\d.,]+.{0,14}")  # with its unit or its spread


class Part(NamedTuple):
  """A piece of a passage; what is marked stands out from the rest."""

  text: str
  marked: bool = False


class Page:
  """Collects the blocks of a page, from the top down; all text is escaped."""

  def __init__(self, title: str):
    """Begins a page with its title as the first heading."""
    self.title = title
    self._blocks: list[dict[str, Any]] = []

  def heading(self, text: str, level: int = 2) -> None:
    """Adds a heading; levels 2 and 3."""
    number = sum(block["kind"] == "heading" for block in self._blocks) + 1
    self._add("heading", text=text, level=level, id=f"part-{number}")

  def contents(self) -> None:
    """Adds links to all headings of level 2, also those that come later."""

    def headings() -> list[dict[str, Any]]:
      return [x for x in self._blocks if x["kind"] == "heading" and x["level"] == 2]

    self._add("contents", headings=headings)

  def paragraph(self, text: str) -> None:
    """Adds a paragraph."""
    self._add("paragraph", text=text)

  def table(
    self, columns: Sequence[str], rows: Sequence[Sequence[Any]], note: str | None = None
  ) -> None:
    """Adds a table. Columns that hold numbers only are aligned at the right.

    Args:
      columns: the headings; none for a table without.
      rows: cells: text, numbers (shown with four digits), or None for what is not known.
      note: small text below.
    """
    texts = [[cell_text(cell) for cell in row] for row in rows]
    numeric = [
      index > 0 and all(not row[index].strip("–") or _NUMBER.fullmatch(row[index]) for row in texts)
      for index in range(max(map(len, texts), default=len(columns)))
    ]
    self._add("table", columns=columns, rows=texts, numeric=numeric, note=note)

  def chart(self, chart: Chart, caption: str = "") -> None:
    """Adds a chart; charts that follow each other stand side by side where there is room."""
    if not self._blocks or self._blocks[-1]["kind"] != "charts":
      self._add("charts", charts=[])
    self._blocks[-1]["charts"].append((chart, caption))

  def passages(self, passages: Sequence[tuple[str, str | Sequence[Part]]]) -> None:
    """Adds texts side by side, such as what several models wrote.

    Args:
      passages: (heading, text) each; a text may consist of parts, of which some are marked.
    """
    parts = [
      {"heading": heading, "parts": [Part(text)] if isinstance(text, str) else list(text)}
      for heading, text in passages
    ]
    self._add("passages", passages=parts)

  def details(self, summary: str, pre_text: str) -> None:
    """Adds text with its line breaks, which opens when a reader clicks on its summary."""
    self._add("details", summary=summary, text=pre_text)

  def html(self) -> str:
    """Returns the whole page."""
    import jinja2  # Here: only those who make a page need it.
    from markupsafe import Markup

    environment = jinja2.Environment(
      loader=jinja2.FileSystemLoader(_TEMPLATES),
      autoescape=True,
      trim_blocks=True,
      lstrip_blocks=True,
      keep_trailing_newline=True,
      undefined=jinja2.StrictUndefined,
    )
    blocks = [
      block
      | {
        "charts": [{"svg": Markup(chart.svg()), "caption": text} for chart, text in block["charts"]]
      }
      if block["kind"] == "charts"
      else block
      for block in self._blocks
    ]
    template = environment.get_template("page.html.j2")
    return template.render(title=self.title, style=Markup(_style()), blocks=blocks)

  def _add(self, kind: str, **values: Any) -> None:
    self._blocks.append({"kind": kind, **values})


def _style() -> str:
  """Returns the style sheet, with the colours of curves on white paper and on a dark page."""
  light, dark = (
    " ".join(f"--series-{number}: {pair[index]};" for number, pair in enumerate(COLORS))
    for index in (0, 1)
  )
  colors = (
    f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    f"@media print {{ :root {{ color-scheme: light; --text: #000; --paper: #fff; --line: #bbb; "
    f"--soft: #444; --mark: #ddd; {light} }} }}\n"
  )
  return (_TEMPLATES / "page.css").read_text("utf-8") + colors
