"""A mixture of corpora is one corpus: its checksum changes with every text and name."""

import pytest

from t5x_style.data import corpora


class Text:
  def __init__(self, text):
    self.name, self._text = "text", text

  def fingerprint(self):
    return self._text


def test_the_fingerprint_is_of_all_texts_and_not_of_rates():
  one, two, three = (Text(text) for text in ("1", "2", "3"))
  mixed = corpora.Mixture({"a": one, "b": two})
  assert mixed.name == "a_b"
  same = corpora.Mixture({"a": one, "b": two}, rates={"a": 1, "b": 5}, temperature=2.0)
  assert same.fingerprint() == mixed.fingerprint()
  for other in ({"a": one, "b": three}, {"a": two, "b": one}, {"a": one, "c": two}, {"a": one}):
    assert corpora.Mixture(other).fingerprint() != mixed.fingerprint()


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 0.9), (2.0, 0.75), (1e9, 0.5)])
def test_temperature_evens_out_the_shares(temperature, share):
  mixed = corpora.Mixture({"a": Text("1"), "b": Text("2")}, {"a": 9, "b": 1}, "rows", temperature)
  assert [part.share for part in mixed.members()] == pytest.approx([share, 1 - share])
