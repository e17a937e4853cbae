"""A run that learnt labels becomes a classifier of transformers, and is read back as one."""

import json
import warnings

import numpy as np
import pytest

import t5x_style
from launch import convert, train

RUN = """
include 'runs/finetune.gin'
include 'models/base.gin'
include 'data/jsonl.gin'
include 'objectives/classification.gin'
from __gin__ import dynamic_registration
from t5x_style.models import config
CORPUS_FILES = "texts.jsonl"
VALIDATION_FILES = "held_out.jsonl"
TARGET_FIELD = "label"
NUM_CLASSES = 3
TASK_FEATURE_LENGTHS = {"inputs": 24}
BATCH_SIZE = 8
TRAIN_STEPS = 20
EVAL_PERIOD = 20
SAVE_PERIOD = 20
WARMUP_STEPS = 2
PEAK_LEARNING_RATE = 0.003
MODEL_DIR = "run"
config.TransformerConfig:
  emb_dim = 32
  num_heads = 4
  head_dim = 8
  mlp_dim = 40
  num_encoder_layers = 2
  mlp_activations = ("gelu_exact",)
  norm = "layer"
  norm_position = "post"
  norm_epsilon = 1e-12
  use_bias = True
  positions = "learned"
  max_length = 32
  num_token_types = 2
  embedding_norm = True
  tie_embeddings = True
  scale_logits = False
  head_transform = True
  head_bias = True
  dropout_places = "bert"
"""
WORDS = {"animal": ("cat", "cow", "hen"), "plant": ("oak", "fir", "elm"), "tool": ("saw", "axe")}
TEXTS = [(f"{start} {x}", label) for label, found in WORDS.items() for x in found for start in "ab"]


@pytest.mark.slow
def test_a_classifier_goes_to_hugging_face_and_back(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  lines = [json.dumps({"text": text, "label": label}) for text, label in TEXTS]
  for name in ("texts", "held_out"):
    (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
  (tmp_path / "run.gin").write_text(f"# A small classifier.\n{RUN}")
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    train.main(["launch.train", "--gin_file=run.gin"])
  convert.main(["launch.convert", "--from=run", "--to=hf:exported"])
  assert "bert (BertForSequenceClassification)" in capsys.readouterr().out
  report = (tmp_path / "exported/conversion.txt").read_text()
  assert "head/transform/kernel" in report and "left out: the exported model has no such" in report

  texts = [text for text, _ in TEXTS]
  here = t5x_style.load("run").classify(texts)
  back = t5x_style.load("hf:exported").classify(texts)
  assert {x.label for x in here} > {"animal"}
  for one, other in zip(here, back, strict=True):
    assert other.probabilities == pytest.approx(dict(one.probabilities), abs=1e-5)

  torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
  there = transformers.AutoModelForSequenceClassification.from_pretrained("exported").eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained("exported")
  with torch.no_grad():
    logits = there(**tokenizer(texts, return_tensors="pt", padding=True)).logits
  found = torch.softmax(logits, -1).numpy()
  for row, one in zip(found, here, strict=True):
    for i, share in enumerate(row):
      label = there.config.id2label[i]
      np.testing.assert_allclose(share, one.probabilities[label], atol=1e-5)
