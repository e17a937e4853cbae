"""A preview as an HTML page."""

from html.parser import HTMLParser

from t5x_style.data.preview import page


class Tags(HTMLParser):
  """Checks that what is opened is closed, in order."""

  def __init__(self):
    super().__init__()
    self.open, self.seen, self.links = [], set(), []

  def handle_starttag(self, tag, attrs):
    self.seen.add(tag)
    self.links += [v for k, v in attrs if k in ("src", "href")]
    if tag not in ("meta", "path"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert tag == "path" or self.open.pop() == tag


def test_page_is_complete_in_itself(contents):
  text = page.page(contents)
  tags = Tags()
  tags.feed(text)
  assert tags.open == []
  assert tags.links == []
  assert {"table", "svg", "pre", "style"} <= tags.seen
  assert "script" not in tags.seen
  assert "http" not in text.split("<h2>")[0]
  assert text.count("<pre>") == 3 * sum(len(part.examples) for part in contents.components)
