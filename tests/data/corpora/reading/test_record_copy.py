"""Copies of JSON lines: what was interrupted resumes, and gives the same records."""

import itertools
import json

import pytest

from t5x_style.data import corpora
from t5x_style.data.corpora.reading import record_cache, record_copy


@pytest.fixture
def lines(tmp_path):
  """Three files of JSON lines, some of which are left out, and long texts."""
  for part in range(3):
    texts = [f"document {part} {i} " + "x" * (i % 50) for i in range(110)]
    objects = [{"text": text, "label": i % 3} for i, text in enumerate(texts)]
    objects[40] = {"label": 1}
    objects[100] = {"text": "half \ud83d", "label": 1}
    content = "\n".join(map(json.dumps, objects)) + "\nnot JSON\n"
    (tmp_path / f"{part}.jsonl").write_text(content)
  return str(tmp_path / "*.jsonl")


class KilledError(BaseException):
  """Stands for the end of a process: nothing is cleaned up after it."""


def kill_after(monkeypatch, documents):
  add = record_cache.RecordWriter.add
  count = 0

  def killed(self, *arguments):
    nonlocal count
    count += 1
    if count > documents:
      raise KilledError
    add(self, *arguments)

  monkeypatch.setattr(record_cache.RecordWriter, "add", killed)


@pytest.mark.parametrize(
  ("target", "saves"),
  [("label", True), (None, False), pytest.param(None, True, marks=pytest.mark.slow)],
)
def test_a_copy_that_was_interrupted_resumes(lines, cache, monkeypatch, target, saves):
  options = {"validation_fraction": 0.2, "copy": True, "target_field": target}
  whole = corpora.Jsonl(lines, cache_dir=str(cache / "whole"), **options)
  with pytest.warns(UserWarning) as expected:
    whole.source()
  seconds = itertools.count()
  monkeypatch.setattr(record_copy.time, "monotonic", lambda: next(seconds))
  monkeypatch.setattr(record_copy, "_SAVE_SECONDS", 20 if saves else 1e9)
  corpus = corpora.Jsonl(lines, cache_dir=str(cache / "parts"), **options)
  for documents in (90, 3, 150):
    with monkeypatch.context() as context, pytest.raises(KilledError):
      kill_after(context, documents)
      corpus.source()
  counted = []
  add = record_cache.RecordWriter.add
  monkeypatch.setattr(
    record_cache.RecordWriter, "add", lambda self, *a: (counted.append(a), add(self, *a))
  )
  with pytest.warns(UserWarning) as again:
    corpus.source()
  # The last 20 or so of each process were not saved, and are written again.
  assert len(counted) == 327 if not saves else 327 - 90 - 150 < len(counted) < 327 - 200
  assert [str(w.message) for w in again] == [str(w.message) for w in expected]
  folders = [next((cache / name).glob("jsonl-*")) for name in ("whole", "parts")]
  files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
  assert files[0] == files[1]
  assert not list((cache / "parts").glob(".*.begun"))


def test_what_is_copied_is_said_before_and_while(lines, monkeypatch, capsys):
  monkeypatch.setattr(record_copy, "_SMALL_BYTES", 0)
  monkeypatch.setattr(record_copy, "_SHOW_SECONDS", 0.0)
  with pytest.warns(UserWarning):
    corpora.Jsonl(lines, copy=True).source()
  first, *progress, last = capsys.readouterr().err.strip().split("\n")
  assert first.startswith("copying the texts of 0.0 GiB of JSON lines to ")
  assert "about 0 minutes" in first and "the same command resumes" in first
  assert len(progress) > 100 and "327 documents; about 0 minutes left" in last


def test_a_copy_of_an_earlier_version_is_still_read(lines, monkeypatch):
  """Its runs resume with the same batches; what was asked for is read only if it is asked for."""
  streamed = corpora.Jsonl(lines).fingerprint()
  copied = corpora.Jsonl(lines, copy=True).fingerprint()
  assert corpora.Jsonl(lines).fingerprint() == streamed != copied
  folder = next(record_cache.default_root().glob("jsonl-*"))
  manifest = json.loads((folder / "manifest.json").read_text())
  del manifest["facts"]["asked"]  # as earlier versions wrote it
  (folder / "manifest.json").write_text(json.dumps(manifest))
  assert corpora.Jsonl(lines).fingerprint() == copied
  assert corpora.Jsonl(lines, copy=False).fingerprint() == streamed


def test_the_name_and_the_content_are_those_of_earlier_versions(tmp_path, monkeypatch):
  """Otherwise a run of before would not find its copy, or not resume after it was copied again."""
  path = tmp_path / "a.jsonl"
  path.write_text('{"text": "one"}\n{"text": "two \\u00e9", "x": 1}\n\n{"y": 2}\n')
  monkeypatch.setattr(record_copy, "_status", lambda file: (100, 200))
  monkeypatch.setattr(record_copy.os.path, "abspath", lambda file: "/data/a.jsonl")
  with pytest.warns(UserWarning, match="1 of 3 JSON lines are left out"):
    corpus = corpora.Jsonl(str(path), validation_fraction=0, copy=True)
    corpus.source()
  (folder,) = (p.name for p in record_cache.default_root().glob("jsonl-*"))
  assert folder == "jsonl-text-f1d913e8e2020fec"
  assert corpus.fingerprint() == "830a63274861b827e3c8252d2d077791c0ec5d09adeac14ba495f8e6a393f608"
