"""Sources over text files: small and exact saved positions, and a file that disappears."""

import pytest
import tensorflow as tf

from t5x_style.data import corpora, iterator
from t5x_style.data.corpora.reading import kept_open, text_checks, text_sources
from t5x_style.errors import UserError


def test_the_state_of_an_iterator_over_many_files_is_small(tmp_path):
  folder = tmp_path / "some" / "folder" / "of" / "a" / "long" / "name"
  folder.mkdir(parents=True)
  names = [f"{folder}/{i:06d}.txt" for i in range(20_000)]
  for name in names:
    open(name, "w").close()
  source = text_sources.WholeFiles({"train": names}, text_checks.FileWarnings())
  dataset = source.get_dataset("train", seed=1)
  path = tf.train.Checkpoint(iterator=iter(dataset)).save(str(tmp_path / "state" / "s"))
  assert sum(file.stat().st_size for file in (tmp_path / "state").iterdir()) < 20_000, path


@pytest.mark.parametrize("most", [0, 2, 512])
def test_a_position_in_lines_is_small_and_exact(compressed, numbered, tmp_path, monkeypatch, most):
  """The number of files kept open and other readers do not matter."""
  monkeypatch.setattr(kept_open, "MOST", most)
  for i in range(6):
    lines = [f"{i} {line}" for line in numbered(400, bits=8000)]
    (tmp_path / f"{i}.gz").write_bytes(compressed(lines))
  source = corpora.TextFiles(f"{tmp_path}/*.gz", "line", validation_fraction=0).source()

  def new():
    return iterator.Stream(iterator.with_options(source.get_dataset("train", seed=3)))

  first, other = new(), new()
  for _ in range(700):
    assert next(first) == next(other)
  state = first.get_state()
  assert len(state) < 2**20
  expected = [next(first)["text"] for _ in range(1700)]
  second = new()
  second.set_state(state)
  assert [next(second)["text"] for _ in range(1700)] == expected
  assert len(set(expected)) == 1700


@pytest.mark.parametrize("documents", ["line", "file"])
def test_a_file_that_goes_away_while_it_is_read(tmp_path, documents):
  for i in range(100):
    (tmp_path / f"{i:02d}.txt").write_text("some text\n" * 40)
  source = corpora.TextFiles(f"{tmp_path}/*.txt", documents, validation_fraction=0).source()
  running = iterator.arrays(source.get_dataset("train", shuffle=False))
  next(running)
  (tmp_path / "99.txt").unlink()
  with pytest.raises(UserError, match="99.txt: it cannot be read .No such file"):
    list(running)
