"""The preview as a command: what it prints, its page, its JSON, its mistakes."""

import io
import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from launch import preview, preview_page
from launch.configuration.errors import ConfigurationError
from t5x_style.data import corpora, loader
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.ul2 import UL2
from t5x_style.data.preview import measure as measuring
from t5x_style.data.tokenizers import token_text, vocabularies

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shown():
  """{architecture: (preview, dataset)} on the embedded corpus."""
  result = {}
  for architecture, objective, lengths in (
    ("encoder_only", MaskedLM(), {"inputs": 64}),
    ("decoder_only", UL2(r_denoisers=[(3, 0.15)], x_denoisers=[(3, 0.5)]), {"targets": 96}),
  ):
    dataset = loader.load(
      architecture,
      4,
      0,
      corpus=corpora.PythonStdlib(),
      vocabulary=vocabularies.sentencepiece(),
      objective=objective,
      feature_lengths=lengths,
      shuffle_buffer_size=8,
    )
    result[architecture] = (measuring.preview(dataset, 1, rows=64, seconds=20), dataset)
  return result


@pytest.mark.parametrize("architecture", ["encoder_only", "decoder_only"])
def test_terminal(shown, architecture):
  look, dataset = shown[architecture]
  out = io.StringIO()
  preview.show(look, dataset, architecture, Console(file=out, width=120, color_system=None))
  text = out.getvalue()
  for part in look.components or (look,):
    assert f"{part.name}, example 1" in text
    assert f"{part.values()['target_tokens']:,.1f}" in text
  for heading, _ in preview.FIGURES.values():
    assert heading in text
  assert "[MASK]" in text if architecture == "encoder_only" else "<extra_id_0>" in text
  assert f"{architecture.split('_')[0]} attention" in text


def test_colours_say_what_a_token_is(shown):
  look, dataset = shown["encoder_only"]
  example = look.examples[0]
  pieces = list(preview.runs(example.inputs, dataset.vocabulary))
  assert pieces[0] == ("[CLS]", "special", False)
  assert ("[MASK]", "masked", True) in [p for p in pieces if p.text == "[MASK]"]
  whole = "".join(p.text for p in pieces)
  assert whole == token_text.decode_visible(dataset.vocabulary, example.inputs.ids)
  short = list(preview.runs(example.inputs, dataset.vocabulary, limit=10))
  assert short[-1].text == f" ... and {len(example.inputs.ids) - 10} more"


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


@pytest.mark.parametrize("architecture", ["encoder_only", "decoder_only"])
def test_page_is_whole_and_needs_nothing(shown, architecture):
  look, dataset = shown[architecture]
  text = preview_page.page(look, dataset, architecture)
  tags = Tags()
  tags.feed(text)
  assert tags.open == []
  assert tags.links == []
  assert {"table", "svg", "pre", "style"} <= tags.seen
  assert "script" not in tags.seen
  assert "http" not in text.split("<h2>")[0]
  assert text.count("<pre>") == 3 * sum(len(p.examples) for p in look.components or (look,))


def test_attention_is_that_of_the_model(shown):
  parts = {part.name: part for part in shown["decoder_only"][0].components}
  features = parts["S"].examples[0].features
  mask = preview.attention(features)["decoder"]
  prefix = int(features["decoder_causal_attention"].sum())
  assert 1 < prefix < len(mask)
  assert mask[:prefix, :prefix].all()
  assert not mask[prefix, prefix + 1 :].any()
  assert mask[prefix:, :prefix].all()


def test_shrunk():
  assert preview.shrunk(np.tri(3, dtype=bool), 24).tolist() == np.tri(3, dtype=bool).tolist()
  assert preview.shrunk(np.tri(100, dtype=bool), 4).tolist() == np.tri(4, dtype=bool).tolist()


def run(*arguments, cwd):
  return subprocess.run(
    [sys.executable, "-m", "launch.preview", *arguments],
    cwd=cwd,
    env=None,
    capture_output=True,
    text=True,
    timeout=200,
  )


@pytest.mark.slow
def test_command(tmp_path):
  done = run(
    f"--gin_file={ROOT}/gin_configs/quickstart.gin",
    "--json",
    f"--html={tmp_path}/page.html",
    "--seconds=0.5",
    "--gin.SHUFFLE_BUFFER_SIZE=64",
    cwd=ROOT,
  )
  assert done.returncode == 0, done.stderr
  value = json.loads(done.stdout)
  assert value["objective"] == "span_corruption"
  assert value["feature_lengths"] == {"inputs": 128, "targets": 29}
  assert value["signal_density"] == pytest.approx(29 / 141)
  assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--html=/no/such/folder/x.html"], "--html=/no/such/folder/x.html is no file"),
    (["--examples=-1"], "--examples=-1"),
    (["--dry_run"], "no flag --dry_run"),
  ],
)
def test_mistakes(arguments, message, monkeypatch):
  monkeypatch.setattr(preview.environment, "prepare", lambda: None)
  with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
    preview.main(["preview", "--gin_file=quickstart.gin", *arguments])
