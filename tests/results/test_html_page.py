"""A page is complete in itself, escaped, and readable in light, in the dark and on paper."""

import html.parser
import re

import pytest

from t5x_style.results.charts import COLORS, Series, line_chart
from t5x_style.results.html_page import Page, Part

HOSTILE = "<script>alert('x')</script> & \"{{ title }}\""


class Reader(html.parser.HTMLParser):
  """Collects tags with their attributes, and all text."""

  def __init__(self, page):
    super().__init__()
    self.tags, self.text, self.open = [], "", []
    self.feed(page)

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    if tag not in ("meta", "path", "use", "rect"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    if tag in self.open:
      assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


def page_of_everything(text):
  page = Page(text)
  page.contents()
  page.heading(text)
  page.paragraph(text)
  page.chart(line_chart(text, text, text, [Series(text, [1, 2], [3, 4])]), text)
  page.table([text, text], [[text, text]], note=text)
  page.passages([(text, text), (text, [Part(text), Part(text, marked=True)])])
  page.details(text, text)
  return page


def test_all_text_is_escaped():
  reader = Reader(page_of_everything(HOSTILE).html())
  assert "script" not in [tag for tag, _ in reader.tags]
  assert reader.open == []
  # Title twice, contents, heading, paragraph, chart's four and caption, table's five, passages'
  # five, details' two.
  assert reader.text.count(HOSTILE) == 22


def test_nothing_is_loaded():
  text = page_of_everything("plain").html()
  for tag, attributes in Reader(text).tags:
    assert tag not in ("script", "link", "img", "iframe", "object")
    for name in ("href", "src", "xlink:href", "srcset", "action"):
      assert attributes.get(name, "#").startswith("#")
  assert not re.search(r"https?:|@import|url\((?!#)", text)


def test_links_lead_to_headings_that_come_later():
  page = Page("t")
  page.contents()
  for name in ("one", "two"):
    page.heading(name)
    page.heading("below", level=3)
  tags = Reader(page.html()).tags
  targets = [a["href"][1:] for tag, a in tags if tag == "a"]
  assert targets == [a["id"] for tag, a in tags if tag == "h2"]
  assert len(set(targets)) == 2


def test_every_colour_has_a_second_one_for_a_dark_page():
  text = page_of_everything("t").html()
  dark = "".join(re.findall(r"prefers-color-scheme: dark\) \{ (:root .*?\}) \}", text))
  for number, (light, on_dark) in enumerate(COLORS):
    assert f"--series-{number}: {on_dark};" in dark and light != on_dark
  assert re.search(r"@media print \{ :root \{ color-scheme: light; --text: #000", text)


def luminance(color):
  channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
  linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("pair", COLORS)
def test_curves_stand_out_from_the_page(pair):
  """WCAG 2.1, 1.4.11: graphics have a contrast of at least 3 to 1."""
  for color, paper in zip(pair, ("#ffffff", "#12161b"), strict=True):
    dark, light = sorted([luminance(color), luminance(paper)])
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_columns_of_numbers_are_at_the_right():
  page = Page("t")
  rows = [["1", 2.5, "3 of 4 steps", None], ["2", "1.5 ± 0.2", "none", 7]]
  page.table(["name", "a", "b", "c"], rows)
  heads = [attributes for tag, attributes in Reader(page.html()).tags if tag == "th"]
  assert ["class" in attributes for attributes in heads] == [False, True, False, True]
  assert "<td class=number>1.5 ± 0.2</td>" in page.html()


def test_charts_in_a_row_share_a_grid():
  page = Page("t")
  chart = line_chart("t", "x", "y", [Series("a", [1, 2], [3, 4])])
  page.chart(chart)
  page.chart(chart, "caption")
  page.paragraph("between")
  page.chart(chart)
  text = page.html()
  assert text.count('class="charts"') == 2
  assert text.count("<figure>") == 3 and text.count("<figcaption>") == 1
