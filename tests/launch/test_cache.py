"""launch.cache: from a gin file to a cache through Apache Beam, killed, resumed and shown."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from launch import cache
from launch.caching import progress
from launch.process.errors import ConfigurationError
from t5x_style import token_cache
from tests import token_caches

ROOT = Path(__file__).parents[2]
slow = pytest.mark.slow  # Each start of Beam and of its workers takes seconds.


@pytest.fixture
def texts(tmp_path):
  """Three files of JSON lines; some lines are there twice."""
  draw = random.Random(0)
  words = [f"word{draw.randint(0, 999)}" for _ in range(5000)]
  for number in range(3):
    lines = [
      json.dumps({"text": f"{number}-{i} " + " ".join(draw.choices(words, k=draw.randint(1, 80)))})
      for i in range(2000)
    ]
    (tmp_path / f"{number}.jsonl").write_text("\n".join([*lines, *lines[:100]]) + "\n")
  return tmp_path


def command(texts, to, *arguments):
  return [
    *(sys.executable, "-m", "launch.cache", "--gin_file=data/jsonl.gin"),
    *(f"--gin.CORPUS_FILES='{texts}/*.jsonl'", f"--to={texts / to}", "--shards=3", *arguments),
  ]


def start(texts, to, *arguments):
  environment = {**os.environ, "T5X_STYLE_CACHE": str(texts / "text_cache")}
  return subprocess.Popen(
    command(texts, to, *arguments),
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(process):
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return output


@slow
def test_two_workers_that_are_killed_and_continue_write_what_one_does(texts):
  pytest.importorskip("apache_beam")
  output = finish(start(texts, "one", "--workers=1"))
  one = token_cache.open(texts / "one")
  counts = one.manifest.statistics["splits"]
  assert sum(x["documents"] for x in counts.values()) == 6300
  assert f"{counts['train']['tokens']:,} tokens" in output
  killed = start(texts, "killed", "--workers=2")
  work = texts / "killed/unfinished/work"
  while not list(work.glob("*.json")) and killed.poll() is None:
    time.sleep(0.02)
  killed.send_signal(signal.SIGKILL)
  killed.wait()
  before = {x.name: x.stat().st_mtime_ns for x in work.glob("*.json")}
  assert before
  again = finish(start(texts, "killed", "--workers=2"))
  assert "3 for train" in again
  assert token_cache.open(texts / "killed").manifest.content == one.manifest.content
  assert "unfinished" not in os.listdir(texts / "killed")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "Where to\\? Write --to=FOLDER"),
    (["--check"], "Which cache\\?"),
    (["a", "b"], "Give one cache, not 2"),
    (["my.gin", "--to=x"], "Did you mean --gin_file=my.gin\\?"),
    (["nothing_there"], "there is no token cache nothing_there; make it"),
  ],
)
def test_mistakes(tmp_path, monkeypatch, arguments, message):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ConfigurationError, match=message):
    cache.main(["launch.cache", *arguments])


def test_a_cache_is_shown_and_checked(tmp_path, capsys):
  documents = [np.arange(3, 200)] * 5
  token_caches.make(tmp_path / "cache", {"train": documents}, shards=1)
  cache.main(["launch.cache", str(tmp_path / "cache")])
  shown = capsys.readouterr().out
  assert "5 documents, 985 tokens" in shown and "content that was written" not in shown
  cache.main(["launch.cache", "--check", str(tmp_path / "cache")])
  assert capsys.readouterr().out == f"{shown}Every file has the content that was written.\n"
  file = tmp_path / "cache/train-00000-of-00001.array_record"
  content = bytearray(file.read_bytes())
  content[len(content) // 4 + 5000] ^= 1
  file.write_bytes(content)
  with pytest.raises(ConfigurationError, match=f"{file.name} has other content"):
    cache.main(["launch.cache", "--check", str(tmp_path / "cache")])


def test_what_follows_two_dashes_is_beam_s():
  arguments = ["launch.cache", "--to=x", "--", "--runner=FlinkRunner", "--x"]
  assert cache._split(arguments) == (["launch.cache", "--to=x"], ["--runner=FlinkRunner", "--x"])


def test_progress_without_a_terminal_says_how_long_it_takes(capsys, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  with progress.shown("tokenised", 1000, 200) as shown:
    for now[0], done in ((10.0, 300), (40.0, 400), (50.0, 500), (100.0, 600)):
      shown.update(done)
  lines = capsys.readouterr().out.splitlines()
  assert lines == ["  tokenised: 40%, about 2 min left", "  tokenised: 60%, about 2 min left"]
