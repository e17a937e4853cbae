"""Real processes train on one token cache: their number changes, and every token is read once."""

import numpy as np
import pytest

from t5x_style.data.tokenizers import vocabularies
from t5x_style.data.tokenizers.base import codec_of
from tests import token_caches
from tests.training_jobs import finish

# Every id but EOS is in the text once, so the ids that were trained on say which text was.
FIRST, IDS, DOCUMENTS = 300, 3744, 96
LENGTH, BATCH, STEPS = 16, 24, 10  # of an epoch: 3840 tokens, EOS included
GIN = """
from __gin__ import dynamic_registration
from t5x_style.data import corpora
from t5x_style.data import loader
from t5x_style.data.objectives import causal_lm
from t5x_style.models import config
from t5x_style.training import train_config
from tests import recorded_batches

train_config.TrainConfig.dataset = @recorded_batches.load
recorded_batches.load:
  dataset = @loader.load
  folder = %RECORDS
loader.load:
  corpus = @corpora.TokenCache()
  objective = @causal_lm.CausalLM()
  feature_lengths = {"targets": 16}
corpora.TokenCache.folder = %CACHE_DIR
causal_lm.CausalLM.cross_documents = True
config.TransformerConfig.vocab_size = 8320
"""


@pytest.mark.slow
def test_two_processes_then_three_then_one_read_every_token_once_an_epoch(tmp_path):
  random = np.random.default_rng(0)
  ids = FIRST + random.permutation(IDS)
  documents = np.split(ids, np.sort(random.choice(np.arange(1, IDS), DOCUMENTS - 1, False)))
  held_out = [np.arange(FIRST, FIRST + 200)]
  codec = codec_of(vocabularies.sentencepiece())
  splits = {"train": documents, "validation": held_out}
  token_caches.make(tmp_path / "cache", splits, codec=codec, shards=3)
  records = tmp_path / "records"
  records.mkdir()
  (tmp_path / "cache.gin").write_text(
    f"{GIN}\nRECORDS = {str(records)!r}\nCACHE_DIR = {str(tmp_path / 'cache')!r}\n"
  )
  fixed = [f"--gin_file={tmp_path / 'cache.gin'}", f"--gin.BATCH_SIZE={BATCH}"]
  fixed += ["--gin.EVAL_PERIOD=1000", "--gin.SAVE_PERIOD=1000"]
  before = 0
  for until, processes in ((7, 2), (13, 3), (2 * STEPS, 1)):
    texts = finish(tmp_path, *fixed, f"--gin.TRAIN_STEPS={until}", processes=processes)
    assert before == 0 or f"Resuming from step {before}." in texts[0]
    names = {
      f"{step:06d}-{i}.npy" for step in range(before + 1, until + 1) for i in range(processes)
    }
    assert names <= {file.name for file in records.iterdir()}
    before = until
  epochs = [rows_of(records, range(first, first + STEPS)) for first in (1, STEPS + 1)]
  for rows in epochs:
    assert rows.shape == (STEPS * BATCH, LENGTH)
    counts = np.bincount(rows.ravel(), minlength=FIRST + IDS)
    assert (counts[FIRST:] == 1).all() and counts[codec.eos_id] == DOCUMENTS
    assert counts.sum() == IDS + DOCUMENTS
  assert (epochs[0] != epochs[1]).mean() > 0.9


def rows_of(records, steps):
  """Returns the target tokens of all processes at some steps, [rows, LENGTH]."""
  files = [file for step in steps for file in sorted(records.glob(f"{step:06d}-*.npy"))]
  return np.concatenate([np.load(file) for file in files])
