"""Charts show the numbers they are given, in any page and in its colours."""

import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from t5x_style.results import charts
from t5x_style.results.charts import Series, line_chart


def points(svg, index):
  """Returns [points, 2] of the curve of a series, in units of the picture."""
  (path,) = re.findall(rf'class="series-{index}">\s*<path d="([^"]+)"', svg)
  return np.array([float(x) for x in re.findall(r"-?[\d.]+", path)]).reshape(-1, 2)


def is_linear(picture, values):
  """Whether coordinates in the picture are those of the values, moved and stretched."""
  fit = np.polyfit(values, picture, 1)
  return abs(fit[0]) > 1e-9 and np.allclose(np.polyval(fit, values), picture, atol=0.02)


def test_curves_are_where_their_numbers_are():
  steps = np.arange(10, 500, 25)
  one, two = np.exp(-steps / 90), np.sin(steps)
  svg = line_chart("t", "step", "loss", [Series("a", steps, one), Series("b", steps, two)]).svg()
  x, y = np.concatenate([points(svg, 0), points(svg, 1)]).T
  assert is_linear(x, np.tile(steps, 2))
  assert is_linear(y, np.concatenate([one, two]))  # Both on one axis.


def test_a_logarithmic_axis_leaves_out_what_is_not_positive():
  x, y = np.array([0, 1, 10, 1000]), np.arange(4.0)
  shown = points(line_chart("t", "tokens", "loss", [Series("a", x, y)], log_x=True).svg(), 0)
  assert is_linear(shown[:, 0], np.log(x[1:]))
  line_chart("t", "tokens", "loss", [Series("a", [0, 0], [1, 2])], log_x=True).svg()


def test_what_is_not_a_number_is_a_gap():
  y = [1.0, 2.0, math.nan, None, 5.0]
  svg = line_chart("t", "x", "y", [Series("a", range(5), y)]).svg()
  assert len(points(svg, 0)) == 3
  (path,) = re.findall(r'class="series-0">\s*<path d="([^"]+)"', svg)
  assert path.count("M") == 2


def test_text_is_shown_as_it_is_and_colours_are_those_of_the_page():
  label = 'a $x$ & <script>"'
  chart = line_chart(label, label, label, [Series(label, [1, 2], [3, 4])] * 2)
  svg = chart.svg()
  assert "<script" not in svg
  tree = ElementTree.fromstring(svg.replace("xlink:href", "href"))
  assert [text.text for text in tree.iter("text")].count(label) == 5
  assert tree.attrib["aria-label"] == label  # for screen readers
  assert tree.attrib["viewBox"] and "width" not in tree.attrib
  colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))
  assert colors == {
    "none",
    "currentColor",
    f"var(--series-0, {charts.COLORS[0][0]})",
    f"var(--series-1, {charts.COLORS[1][0]})",
  }
  assert "font-family" not in svg and "<style" not in svg and "http" not in svg


def test_charts_of_one_page_do_not_share_ids():
  one, two = (line_chart(t, "x", "y", [Series("a", [1, 2], [3, 4])]).svg() for t in "ab")
  ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (one, two)]
  assert ids[0] and not ids[0] & ids[1]
  for svg, own in zip((one, two), ids, strict=True):
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg)) == own


def test_a_chart_is_the_same_text_whenever_it_is_drawn():
  chart = line_chart("t", "x", "y", [Series("a", [1, 2], [3, 4], low=[2, 3], high=[4, 5])])
  assert chart.svg() == chart.svg()


def test_a_run_keeps_its_colour_and_long_legends_make_room():
  series = [Series(f"run {n}", [1, 2], [n, n + 1], color=n) for n in range(3, 20)]
  svg = line_chart("t", "x", "y", series).svg()
  assert re.search(r'class="series-0">\s*<path[^>]*var\(--series-3,', svg)
  heights = [
    float(re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', line_chart("t", "x", "y", s).svg()).group(1))
    for s in (series[:2], series)
  ]
  assert heights[1] > heights[0] + 80


@pytest.mark.parametrize("values", [[], [1.0], [math.nan, math.nan], [2.0, 2.0]])
def test_curves_of_few_points_are_drawn(values):
  for logarithmic in (False, True):
    chart = line_chart("t", "x", "y", [Series("a", range(len(values)), values)], log_y=logarithmic)
    assert chart.svg().endswith("</svg>")


def test_a_picture_is_written(tmp_path):
  path = tmp_path / "chart.png"
  line_chart("t", "x", "y", [Series("a", [1, 2], [3, 4])]).png(path)
  content = path.read_bytes()
  assert content[:8] == b"\x89PNG\r\n\x1a\n"
  assert int.from_bytes(content[16:20], "big") == 960
