"""Contents of previews: an objective for one side, and a mixture."""

import numpy as np
import pytest

from t5x_style.data import corpora, loader
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.ul2 import UL2
from t5x_style.data.preview import measure
from t5x_style.data.preview.contents import Contents
from t5x_style.data.tokenizers import vocabularies


@pytest.fixture(scope="package", params=["encoder_only", "decoder_only"])
def contents(request):
  """On the embedded corpus; every position attends to those before it."""
  architecture = request.param
  objective, lengths = {
    "encoder_only": (MaskedLM(), {"inputs": 64}),
    "decoder_only": (UL2(r_denoisers=[(3, 0.15)], x_denoisers=[(3, 0.5)]), {"targets": 96}),
  }[architecture]
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
  measured = measure.preview(dataset, 1, rows=64, seconds=20)

  def attention(features):
    side = architecture.split("_")[0]
    return {side: np.tri(len(features[f"{side}_input_tokens"]), dtype=bool)}

  return Contents(measured, dataset, architecture, attention)
