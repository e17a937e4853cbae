"""Charts of curves, drawn by matplotlib: inline SVG in the colours of its page, and PNG."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, TypeAlias

from t5x_style.results.numbers import short_number

if TYPE_CHECKING:
  import numpy as np
  from matplotlib.figure import Figure

# Colours that most people can tell apart: (on white paper, on a dark page).
COLORS = (
  ("#2563b0", "#6aa9f4"),
  ("#c2410c", "#f59e6c"),
  ("#15803d", "#5fce8a"),
  ("#8b2fa3", "#d18cf0"),
  ("#0e7490", "#4fc3d9"),
  ("#8a6100", "#e0b14a"),
  ("#be185d", "#f584b4"),
  ("#57534e", "#b8b2ac"),
)
_INK = "#010203"  # Stands for the colour of the page's text until the SVG is written.
_LEFT_OUT = (
  r"<metadata>.*?</metadata>",
  r"<style.*?</style>",
  r"font-family: [^;]*; ",
  r' transform="rotate\(-0 [^"]*\)"',
)
_INCHES = (4.8, 3.0)  # small enough to be read on a telephone
_LEGEND_ROW = 0.18  # inches; the first one is in _INCHES
_LINES = (
  "solid",
  "dashdot",
  "dotted",
)  # of the first series as many as there are colours, the next, ...
_DASHED = (0, (4, 1.5))
_LONGEST, _HALF = 60, 28  # characters of a label, of which one or two stand in a row
_FEW = 30  # A curve of at most this many points shows each of them.


Floats: TypeAlias = "Sequence[float] | np.ndarray"


@dataclasses.dataclass(frozen=True)
class Series:
  """One curve of a chart.

  Attributes:
    label: its text in the legend; "" is not in it.
    x, y: of its points; NaN in y is a gap.
    low, high: a band around it, such as the spread over seeds; both or none.
    color: the number of its colour, from 0, where a run has the same in all charts; None takes that
      of its place in the chart.
    dashed: for the second curve of a run in the same colour.
  """

  label: str
  x: Floats
  y: Floats
  low: Floats | None = None
  high: Floats | None = None
  color: int | None = None
  dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
  """A chart that is drawn when it is requested, because that takes a tenth of a second."""

  title: str
  x_label: str
  y_label: str
  series: tuple[Series, ...]
  log_x: bool = False
  log_y: bool = False
  marks: tuple[float, ...] = ()  # vertical lines at these x

  def svg(self) -> str:
    """Returns the chart as an <svg> element for a page: text and axes in the page's text colour.

    The curves have the colours var(--series-0), var(--series-1), ..., if the page defines them.
    """
    return _svg(self)

  def _repr_html_(self) -> str:
    """Shows the chart in a notebook."""
    return f'<div style="max-width: 36rem">{self.svg()}</div>'

  def png(self, path: Any, dots_per_inch: int = 200) -> None:
    """Writes the chart as a picture on white.

    Args:
      path: a file that can be written, or its path.
    """
    with _style():
      figure = _figure(self, "#1b1f24")
      figure.savefig(path, format="png", dpi=dots_per_inch, facecolor="white")


def line_chart(
  title: str,
  x_label: str,
  y_label: str,
  series: Sequence[Series],
  log_x: bool = False,
  log_y: bool = False,
  marks: Sequence[float] = (),
) -> Chart:
  """Returns a chart of one or more curves, with vertical lines at `marks` of x.

  On a logarithmic axis, values that are not positive are left out.
  """
  return Chart(title, x_label, y_label, tuple(series), log_x, log_y, tuple(marks))


def _style() -> Any:
  import matplotlib

  return matplotlib.rc_context(
    {
      "font.size": 9,
      "svg.hashsalt": "the same chart is the same text",
      "svg.fonttype": "none",  # Text stays text: it can be searched, and has the page's font.
      "text.parse_math": False,  # A name may hold dollar signs.
      "path.simplify": True,
      "lines.linewidth": 1.4,
      "axes.spines.top": False,
      "axes.spines.right": False,
    }
  )


def _figure(chart: Chart, ink: str) -> Figure:
  from matplotlib.figure import Figure  # Not pyplot: it keeps figures, and looks for a display.

  labels = [_shortened(series.label) for series in chart.series if series.label]
  columns = 1 if max(map(len, labels), default=0) > _HALF else 2
  rows = -(-len(labels) // columns)
  width, height = _INCHES
  figure = Figure(figsize=(width, height + _LEGEND_ROW * max(rows - 1, 0)), layout="constrained")
  axes = figure.add_subplot()
  axes.set_title(chart.title, loc="left", color=ink, fontsize=10, fontweight="bold")
  axes.set_xlabel(chart.x_label, color=ink)
  axes.set_ylabel(chart.y_label, color=ink)
  axes.tick_params(which="both", colors=ink)
  axes.grid(True, color=ink, alpha=0.15, linewidth=0.5)
  for spine in axes.spines.values():
    spine.set_edgecolor(ink)
    spine.set_linewidth(0.6)
  for mark in chart.marks:
    axes.axvline(mark, color=ink, alpha=0.5, linewidth=0.8, linestyle=_DASHED)
  for index, series in enumerate(chart.series):
    _draw(axes, index, series)
  _set_axes(chart, axes)
  if rows:
    figure.legend(
      loc="outside lower left", ncols=columns, frameon=False, labelcolor=ink, fontsize=9
    )
  return figure


def _draw(axes: Any, index: int, series: Series) -> None:
  number = index if series.color is None else series.color
  color, line = COLORS[number % len(COLORS)][0], _LINES[number // len(COLORS) % len(_LINES)]
  x, y = list(series.x), [math.nan if value is None else value for value in series.y]
  if series.low is not None and series.high is not None:
    axes.fill_between(x, series.low, series.high, color=color, alpha=0.2, linewidth=0)
  (drawn,) = axes.plot(
    x,
    y,
    color=color,
    linestyle=_DASHED if series.dashed else line,
    marker="o" if len(x) <= _FEW else None,
    markersize=2.5,
    label=_shortened(series.label) or "_",  # what matplotlib leaves out of a legend
  )
  drawn.set_gid(f"series-{index}")


def _set_axes(chart: Chart, axes: Any) -> None:
  """Sets the scales, and the numbers at the axes."""
  from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

  numbers = FuncFormatter(lambda value, _: short_number(value))
  scales = (
    (axes.xaxis, axes.set_xscale, chart.log_x, [x for s in chart.series for x in s.x]),
    (axes.yaxis, axes.set_yscale, chart.log_y, [y for s in chart.series for y in s.y]),
  )
  for axis, set_scale, logarithmic, values in scales:
    if logarithmic and any(value > 0 for value in values):
      set_scale("log", nonpositive="mask")
      axis.set_minor_formatter(NullFormatter())
    else:
      axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10], min_n_ticks=2))
    axis.set_major_formatter(numbers)


def _shortened(label: str) -> str:
  return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _svg(chart: Chart) -> str:
  written = io.StringIO()
  nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
  with _style():
    _figure(chart, _INK).savefig(written, format="svg", transparent=True, metadata=nothing)
  text = written.getvalue()
  # The page has these styles: inside the chart they would hold for the whole page, or not fit it.
  for pattern in _LEFT_OUT:
    text = re.sub(pattern, "", text, flags=re.DOTALL)
  text = re.sub(r'(?<= d=")[^"]+', lambda path: _rounded(path.group()), text)
  start, _, rest = text[text.index("<svg") :].partition(">")
  box = re.search(r'viewBox="[^"]*"', start)
  assert box is not None
  rest = _own_ids(rest, _prefix(chart)).replace(_INK, "currentColor")
  for number, (color, _) in enumerate(COLORS):
    rest = rest.replace(color, f"var(--series-{number}, {color})")
  title = escape(chart.title)
  return f'<svg class="chart" {box.group()} role="img" aria-label="{title}">{rest}'.strip()


def _rounded(path: str) -> str:
  """Returns the coordinates of a path with a hundredth of a point, in one line."""
  short = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number.group()):.2f}", path)
  return " ".join(short.split())


def _prefix(chart: Chart) -> str:
  """Returns the beginning of the ids of a chart, which is the same whenever it is drawn."""
  return f"c{hashlib.sha256(repr(chart).encode()).hexdigest()[:10]}-"


def _own_ids(svg: str, prefix: str) -> str:
  """Renames the ids of a chart, as those of another chart are in the same page; drops most of them.

  The ids of curves become classes.
  """
  used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))

  def renamed(match: re.Match) -> str:
    name = match.group(1)
    if name.startswith("series-"):
      return f' class="{name}"'
    return f' id="{names[name]}"' if name in used else ""

  names = {name: f"{prefix}{number}" for number, name in enumerate(sorted(used))}
  svg = re.sub(r' id="([^"]+)"', renamed, svg)
  return re.sub(r'(url\(#|href="#)([^)"]+)', lambda x: x.group(1) + names[x.group(2)], svg)
