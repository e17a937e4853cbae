"""Readers that are kept open: taken once, closed when they are too many."""

from t5x_style.data.corpora.reading import kept_open


class Reader:
  closed = False

  def close(self):
    self.closed = True


def test_a_reader_is_taken_once_and_the_oldest_is_closed(monkeypatch):
  monkeypatch.setattr(kept_open, "MOST", 2)
  readers, kept = [Reader() for _ in range(4)], kept_open.KeptOpen()
  assert kept.take("a") is None
  kept.put("a", readers[0])
  assert kept.take("a") is readers[0] and kept.take("a") is None
  for position, reader in zip("aabc", readers, strict=True):
    kept.put(position, reader)
  assert [reader.closed for reader in readers] == [True, True, False, False]
  assert (kept.take("b"), kept.take("c")) == (readers[2], readers[3])
