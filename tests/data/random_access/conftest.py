"""Small token caches, and the data of a run on them."""

import pytest

from t5x_style.data import loader
from t5x_style.data.corpora import TokenCache
from t5x_style.data.tokenizers.base import codec_of
from tests import token_caches


@pytest.fixture(scope="session")
def cached(tmp_path_factory, vocabulary):
  """cached(train, validation=...) makes a token cache of documents and returns it as a corpus."""

  def make(train, validation=None, **changes):
    folder = tmp_path_factory.mktemp("cache") / "made"
    splits = {"train": train} | ({} if validation is None else {"validation": validation})
    token_caches.make(folder, splits, **{"codec": codec_of(vocabulary), **changes})
    return TokenCache(str(folder))

  return make


@pytest.fixture(scope="session")
def corpus(cached, documents):
  """A cache of the forty documents of the tests, and of six for validation."""
  return cached(documents, validation=[document[:300] for document in documents[:6]])


@pytest.fixture(scope="session")
def load(corpus):
  """load(architecture, objective, batch_size, seed, process_index, process_count, ...)"""

  def run(architecture, objective, batch_size=4, seed=0, *process, **changes):
    settings = {"corpus": corpus, "objective": objective, "feature_lengths": {"inputs": 64}}
    return loader.load(architecture, batch_size, seed, *process, **{**settings, **changes})

  return run
