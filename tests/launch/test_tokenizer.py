"""launch.tokenizer: from files, from the corpus of a run and from a SeqIO task to a vocabulary."""

import inspect
import json
import re
import sys
import textwrap

import pytest

from launch import tokenizer
from launch.process.errors import ConfigurationError
from t5x_style.data.corpora.reading import text_reading
from t5x_style.data.tokenizers import special_tokens, vocabularies


@pytest.fixture(autouse=True)
def workdir(tmp_path, monkeypatch):
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "cache"))
  monkeypatch.chdir(tmp_path)
  for i, module in enumerate((inspect, json.decoder, textwrap, sys.modules["argparse"])):
    (tmp_path / f"{i}.txt").write_text(inspect.getsource(module))
  (tmp_path / "more.txt").write_bytes(b"with \xff in it")
  (tmp_path / "nothing").touch()
  with (tmp_path / "large").open("wb") as file:
    file.truncate(text_reading.LARGEST_DOCUMENT + 1)  # Takes no room on the disk.
  return tmp_path


def run(*arguments):
  tokenizer.main(["launch.tokenizer", "--vocab_size=500", *arguments])


def rows(text):
  """Returns {split: (documents, exact)} of the table that is printed."""
  table = [line.split() for line in text.splitlines()]
  return {row[0]: (row[1], row[5]) for row in table if row and row[0] in ("train", "validation")}


def test_text_files(workdir, capsys):
  run("--input=*.txt", "--output=new/folder/my.model")
  output = capsys.readouterr().out
  assert rows(output) == {"train": ("4", "4"), "validation": ("1", "1")}
  assert "--gin.VOCABULARY_FILE=\"'new/folder/my.model'\"" in output
  assert "--gin.VOCAB_SIZE=628\n" in output
  assert "bytes/token" in output
  assert [path.name for path in (workdir / "new/folder").iterdir()] == ["my.model"]
  vocabulary = vocabularies.sentencepiece("new/folder/my.model")
  assert vocabulary.vocab_size == 628
  assert special_tokens.special_id(vocabulary, "[MASK]") == 5
  text = "\tdef f(x):\n      return '\u2581 [MASK]'  # é"
  assert vocabulary.decode(vocabulary.encode(text)) == text


def test_one_file_and_the_same_again(workdir, capsys):
  run("--input=0.txt", "--output=a.model")
  assert rows(capsys.readouterr().out) == {"train": ("1", "1")}
  run("--input=0.txt", "--input=nothing", "--output=b.model")
  assert (workdir / "a.model").read_bytes() == (workdir / "b.model").read_bytes()


def test_the_corpus_of_a_run(workdir, capsys):
  lines = [json.dumps({"body": text}) for text in (workdir / "0.txt").read_text().split("\n\n")]
  (workdir / "a.jsonl").write_text("\n".join(lines))
  corpus = ("--gin_file=data/jsonl.gin", "--gin.CORPUS_FILES='a.jsonl'", "--gin.JSON_FIELD='body'")
  run(*corpus, "--gin.EXTRA_IDS=256")
  output = capsys.readouterr().out
  assert f"--gin.VOCAB_SIZE={500 + 256}\n" in output
  assert "on jsonl" in output
  assert set(rows(output)) == {"train", "validation"}
  assert (workdir / "vocabulary.model").exists()


def test_a_task(workdir, capsys, monkeypatch):
  (workdir / "tasks_for_a_vocabulary.py").write_text(
    textwrap.dedent("""
      import seqio, tensorflow as tf
      seqio.TaskRegistry.add(
        "lines_for_a_vocabulary",
        source=seqio.TextLineDataSource({"train": "0.txt"}),
        preprocessors=[
          lambda lines: lines.map(lambda line: {"targets": line}),
          seqio.preprocessors.tokenize,
        ],
        output_features={"targets": seqio.Feature(seqio.ByteVocabulary())},
      )
    """)
  )
  monkeypatch.syspath_prepend(str(workdir))
  run("--task=lines_for_a_vocabulary", "--module=tasks_for_a_vocabulary")
  found = rows(capsys.readouterr().out)
  assert set(found) == {"train"} and found["train"][0] == found["train"][1]


@pytest.mark.slow
def test_the_standard_library_is_the_default(workdir, capsys, monkeypatch):
  run("--max_megabytes=1")
  output = capsys.readouterr().out
  assert "on python_stdlib" in output and "at most about 1.0 GB of memory" in output
  assert re.search(r"Read \d\d\.\d MB and sampled 1\.0 MB of them", output)
  for documents, exact in rows(output).values():
    assert documents == exact


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--input=*.nothing"], "no file matches --input"),
    (["--input=nothing"], "All files that --input matches are empty, e.g. nothing; give"),
    (["--input=*"], "instead of --input give --gin_file=data/text_files.gin"),
    (["--input=0.txt", "--task=x"], "--input and --task name different texts"),
    (["--module=x"], "give --task"),
    (["--task=no_such_task"], "'no_such_task' is not registered"),
    (["--input=0.txt", "--vocab_size=100000"], "too short for a vocabulary of 100000 pieces"),
    (["--input=0.txt", "--vocab_size=20"], "vocab_size"),
    (["--gin_file=data/text_files.gin"], "CORPUS_FILES is not set"),
    (["--gin_file=data/vocabulary.gin"], "set no CORPUS"),
    (["--output=0.txt"], "0.txt exists"),
    (["--output=/proc/x/y.model"], "--output=/proc/x/y.model cannot be written (No such file"),
  ],
)
def test_mistakes(workdir, arguments, message):
  with pytest.raises(ConfigurationError) as raised:
    run(*arguments)
  assert message in str(raised.value)
  assert not (workdir / "vocabulary.model").exists()
