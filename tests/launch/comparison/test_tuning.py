"""Fine-tuning of a run on labelled texts, as launch.train does it."""

import json

import pytest

import t5x_style
from launch.comparison import tuning
from launch.process.errors import ConfigurationError
from launch.process.exit_codes import ExitCode
from t5x_style.errors import UserError

CONFIG = """\
from __gin__ import dynamic_registration
from t5x_style.data import corpora
from t5x_style.data.tokenizers import vocabularies
CORPUS = @corpora.TextFiles()  # a file
EXTRA_IDS = 21  # a file
VOCABULARY = @vocabularies.byte_vocabulary()  # a file
VOCABULARY_FILE = 'python_stdlib.model'  # a file
VOCAB_SIZE = 384  # a file
vocabularies.byte_vocabulary.extra_ids = %EXTRA_IDS  # a file
corpora.TextFiles.files = 'x'
"""


def test_the_vocabulary_of_a_run_is_taken_from_its_config():
  kept = tuning._vocabulary(CONFIG).splitlines()
  assert kept == [line for line in CONFIG.splitlines() if "orp" not in line and "_SIZE" not in line]
  with pytest.raises(UserError, match="has no VOCABULARY"):
    tuning._vocabulary("CORPUS = None\n")


@pytest.fixture
def labelled(tmp_path):
  """Gin files and bindings of a task of two labels that one word tells apart."""
  for split, count in (("train", 64), ("validation", 16)):
    lines = [
      {"text": f"number {i} is {'even' if i % 2 == 0 else 'odd'}", "label": str(i % 2)}
      for i in range(count)
    ]
    (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
  return (
    "data/jsonl.gin",
    f"CORPUS_FILES = '{tmp_path}/train.jsonl'",
    f"VALIDATION_FILES = '{tmp_path}/validation.jsonl'",
    "JSON_FIELD = 'text'",
    "TARGET_FIELD = 'label'",
    "NUM_CLASSES = 2",
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  "architecture, objective",
  [
    ("encoder_only", "masked_lm"),
    ("encoder_only", "next_sentence"),
    ("encoder_only", "masked_diffusion"),
    ("decoder_only", "causal_lm"),
    ("decoder_only", "ul2"),
    ("encoder_decoder", "span_corruption"),
  ],
)
def test_a_model_learns_labels(finished_run, labelled, tmp_path, architecture, objective):
  # An encoder-decoder of width 32 first has to learn to write a label and to end.
  steps = 200 if architecture == "encoder_decoder" else 40
  model_dir = finished_run(architecture, objective)
  model = t5x_style.load(model_dir)
  found = tuning.classification(
    model, model_dir, labelled, steps=steps, seed=0, folder=tmp_path / "tuned"
  )
  assert 0.4 <= found.value <= 1
  assert f"{steps} steps of 16" in found.method
  config = (tmp_path / "tuned" / "config.gin").read_text()
  assert f"INITIAL_CHECKPOINT_PATH = '{model.path}'" in config
  assert ("bidirectional_inputs = True" in config) == (
    objective == "ul2" and architecture == "decoder_only"
  )
  again = tuning.classification(
    model, model_dir, labelled, steps=steps, seed=0, folder=tmp_path / "tuned"
  )
  assert again == found


class Ended:
  """Stands for a child process that has ended."""

  def __init__(self, code, said="of a setting"):
    self.poll, self.error = lambda: code, lambda: said


@pytest.mark.parametrize(
  "code, error, message",
  [
    (ExitCode.MISTAKE, UserError, "cannot be fine-tuned: of a setting"),
    (ExitCode.STORAGE, ConfigurationError, r"code 4 \(.*tuned-2.log\): of a setting\nThe same"),
    (-9, ConfigurationError, "code -9"),
  ],
)
def test_only_a_mistake_is_a_reason_why_there_is_no_value(
  finished_run, tmp_path, monkeypatch, code, error, message
):
  monkeypatch.setattr(tuning.processes, "Child", lambda *given: Ended(code))
  model_dir = finished_run("decoder_only", "causal_lm")
  model = t5x_style.load(model_dir)
  with pytest.raises(error, match=message):
    tuning.classification(model, model_dir, (), steps=1, seed=0, folder=tmp_path / "tuned-2")
