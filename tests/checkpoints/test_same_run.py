"""A run resumes only from its own checkpoints."""

import dataclasses
import functools
import json

import pytest

from t5x_style.checkpoints import restoring, same_run
from t5x_style.errors import UserError
from t5x_style.models import Experts, RotaryScaling
from t5x_style.training import optimizers, setup
from tests import tiny


def test_another_run_in_model_dir_is_refused_with_the_difference(tiny_config, tmp_path):
  tiny.train(tiny_config("decoder_only", tmp_path, train_steps=1))
  before = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  other = setup.prepare(tiny_config("decoder_only", tmp_path, model={"mlp_dim": 128}))
  with pytest.raises(ValueError, match="another run") as error:
    restoring.open_run(other)
  assert '- "mlp_dim": 64' in str(error.value)
  assert '+ "mlp_dim": 128' in str(error.value)
  assert "emb_dim" not in str(error.value)
  assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == before


def test_settings_that_may_change_are_shown_when_the_run_resumes(tiny_config, tmp_path):
  tiny.train(tiny_config("decoder_only", tmp_path, train_steps=2))
  for changed, lines in (
    ({"train_steps": 2}, []),
    (
      {"train_steps": 3, "num_microbatches": 2},
      ["NUM_MICROBATCHES: 1 -> 2", "TRAIN_STEPS: 2 -> 3"],
    ),
  ):
    job = restoring.open_run(setup.prepare(tiny_config("decoder_only", tmp_path, **changed)))
    job.checkpoints.close()
    assert (job.first_step, sorted(job.changes)) == (2, lines)


def test_a_setting_that_changes_what_the_optimizer_stores_is_refused(tiny_config, tmp_path):
  config = functools.partial(tiny_config, "decoder_only", train_steps=1)
  tiny.train(config(tmp_path / "adamw"))
  with pytest.raises(UserError, match=r"another layout(.|\n)*  CLIP_GRADIENT_NORM: None -> 1\.0\n"):
    restoring.open_run(setup.prepare(config(tmp_path / "adamw", clip_gradient_norm=1.0)))
  adafactor = functools.partial(optimizers.adafactor, weight_decay=0.1)
  tiny.train(config(tmp_path / "adafactor", optimizer=optimizers.adafactor))
  with pytest.raises(UserError, match=r"another layout(.|\n)*adafactor.weight_decay: 0.0 -> 0.1"):
    restoring.open_run(setup.prepare(config(tmp_path / "adafactor", optimizer=adafactor)))
  # Another norm to clip to changes no layout.
  tiny.train(config(tmp_path / "clipped", clip_gradient_norm=1.0))
  job = restoring.open_run(setup.prepare(config(tmp_path / "clipped", clip_gradient_norm=0.5)))
  job.checkpoints.close()
  assert job.changes == ["CLIP_GRADIENT_NORM: 1.0 -> 0.5"]


def test_a_checkpoint_older_than_an_option_is_of_the_same_run(tiny_config, tmp_path):
  prepared = setup.prepare(tiny_config("decoder_only", tmp_path))
  saved = json.loads(json.dumps(prepared.identity()))
  del saved["model"]["attention_windows"]
  same_run.check_same_run(prepared, saved)
  # Earlier versions compared the clipping with all that must not change.
  same_run.check_same_run(prepared, saved | {"clip_gradient_norm": None})
  with pytest.raises(UserError, match=r"CLIP_GRADIENT_NORM: 1.0 -> None"):
    same_run.check_same_run(prepared, saved | {"clip_gradient_norm": 1.0})
  saved["model"]["attention_windows"] = [64]
  with pytest.raises(ValueError, match="another run"):
    same_run.check_same_run(prepared, saved)


def test_dropout_inside_experts_is_told_from_that_of_the_model(tiny_config, tmp_path):
  model = {"experts": Experts(num_experts=2, dropout_rate=0.2)}
  prepared = setup.prepare(tiny_config("decoder_only", tmp_path, model=model))
  saved = json.loads(json.dumps(prepared.identity()))
  saved["model"]["experts"]["dropout_rate"] = 0.4
  with pytest.raises(UserError) as error:
    same_run.check_same_run(prepared, saved)
  assert '\n  - "experts.dropout_rate": 0.4\n  + "experts.dropout_rate": 0.2\n' in str(error.value)


class Text:
  """What check_same_run takes of a dataset: the corpus of a run, and its files."""

  def __init__(self, files, fingerprint, name="text_files", replayed=None):
    self._files = files
    self._corpora = {"corpus": {"name": name, "fingerprint": fingerprint}}
    if replayed:
      self._corpora["replay_corpus"] = {"name": name, "fingerprint": replayed}

  def identity(self):
    return {**self._corpora, "batch_size": 8}

  def files(self):
    return self._files


def test_a_checkpoint_older_than_the_kinds_of_scaling_is_of_the_same_run(tiny_config, tmp_path):
  scaled = {"rotary_scaling": RotaryScaling(factor=8.0, original_length=16)}
  prepared = setup.prepare(tiny_config("decoder_only", tmp_path, model=scaled))
  saved = json.loads(json.dumps(prepared.identity()))
  saved["model"]["rotary_scaling"] = {"factor": 8.0, "low": 1.0, "high": 4.0, "original_length": 16}
  same_run.check_same_run(prepared, saved)
  saved["model"]["rotary_scaling"]["low"] = 2.0
  with pytest.raises(UserError, match="another run"):
    same_run.check_same_run(prepared, saved)


def test_the_files_of_a_corpus_that_changed_are_named(tiny_config, tmp_path):
  def prepared(files, fingerprint, **changes):
    run = setup.prepare(tiny_config("decoder_only", tmp_path, **changes))
    return dataclasses.replace(run, dataset=Text(files, fingerprint))

  before = {"a.txt": [1000, "0"], "b.txt": [20, "0"], "c.txt": [7, "0"], "d.txt": [1, "0"]}
  after = {"a.txt": [2000, "0"], "b.txt": [20, "1"], "d.txt": [1, "0"], "e.txt": [5, "0"]}
  saved = prepared(before, "x")
  settings = saved.settings(1)
  same_run.check_same_run(prepared(before, "x"), saved.identity(), settings)
  with pytest.raises(UserError, match="The corpus is not the one") as error:
    same_run.check_same_run(prepared(after, "y"), saved.identity(), settings)
  assert str(error.value).splitlines()[1:-1] == [
    "  a.txt has 2,000 bytes, and had 1,000",
    "  b.txt has another text",
    "  c.txt is missing",
    "  e.txt is new",
  ]
  # A replayed corpus may change as well.
  both = dataclasses.replace(prepared({}, ""), dataset=Text(before, "x", replayed="z"))
  changed = dataclasses.replace(both, dataset=Text(after, "x", replayed="y"))
  with pytest.raises(UserError, match=r"The corpus is not the one(.|\n)*c\.txt is missing"):
    same_run.check_same_run(changed, both.identity(), both.settings(1))
  with pytest.raises(UserError, match="another run"):
    same_run.check_same_run(changed, saved.identity(), settings)
  # Without what the files were, only that it changed is known.
  with pytest.raises(UserError, match=r"began with\.\n"):
    same_run.check_same_run(prepared(after, "y"), saved.identity())
  # JSON lines may have been read from a copy.
  lines = dataclasses.replace(prepared({}, ""), dataset=Text({}, "x", name="jsonl"))
  streamed = dataclasses.replace(lines, dataset=Text({}, "y", name="jsonl"))
  with pytest.raises(UserError, match="set CORPUS_COPY = True, which reads that copy"):
    same_run.check_same_run(streamed, lines.identity(), lines.settings(1))
  # If more differs it is simply another run.
  with pytest.raises(UserError, match="another run"):
    same_run.check_same_run(prepared(after, "y", seed=1), saved.identity(), settings)
