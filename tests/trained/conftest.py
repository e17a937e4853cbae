"""MODEL_DIRs of tiny runs on real text, with the vocabulary that launch.train writes."""

import functools

import pytest
from etils import epath

from t5x_style.data import loader
from t5x_style.data.corpora.text_files import TextFiles
from t5x_style.data.objectives import causal_lm, masked_lm, span_corruption
from t5x_style.data.tokenizers import vocabularies
from t5x_style.training import setup
from tests import tiny

OBJECTIVES = {
  "decoder_only": causal_lm.CausalLM(),
  "encoder_decoder": span_corruption.SpanCorruption(),
  "encoder_only": masked_lm.MaskedLM(),
}
SPECIALS = ("[CLS]", "[SEP]", "[MASK]")
# {architecture: its vocabulary}
VOCABULARIES = {
  "decoder_only": lambda: vocabularies.sentencepiece("python_stdlib.model", 8, ("[A]",)),
  "encoder_decoder": lambda: vocabularies.byte_vocabulary(21, SPECIALS),
  "encoder_only": lambda: vocabularies.byte_vocabulary(21, SPECIALS),
}


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
  """finished_run(architecture) returns a MODEL_DIR with steps 2 and 4, which no test may change."""
  texts = tmp_path_factory.mktemp("texts")
  for i in range(8):
    text = " ".join(f"line {k} of {i}: the quick brown fox" for k in range(12))
    (texts / f"{i}.txt").write_text(text)

  @functools.cache
  def train(architecture):
    vocabulary = VOCABULARIES[architecture]()
    folder = tmp_path_factory.mktemp(architecture)
    dataset = functools.partial(
      loader.load,
      corpus=TextFiles(str(texts / "*.txt"), validation_fraction=0.25),
      vocabulary=vocabulary,
      objective=OBJECTIVES[architecture],
      feature_lengths={"targets": 16} if architecture == "decoder_only" else {"inputs": 16},
    )
    model = {"vocab_size": vocabulary.vocab_size}
    config = tiny.config(architecture, folder, dataset=dataset, save_period=2, model=model)
    setup.prepare(config).dataset.store_vocabulary(epath.Path(folder))  # as launch.train does
    tiny.train(config)
    return folder

  return train
