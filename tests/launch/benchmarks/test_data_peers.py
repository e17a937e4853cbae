"""Other packages give batches of the same shapes as this one, from the same tokens."""

import numpy as np
import pytest

from launch.benchmarks import data_peers
from t5x_style.data.tokenizers import vocabularies


def inputs():
  random = np.random.default_rng(0)
  documents = [random.integers(300, 8000, n).astype(np.int32) for n in (900, 2000, 700)]
  pairs = [
    {"inputs": random.integers(3, 8000, n).astype(np.int32), "targets": np.full(5, 7, np.int32)}
    for n in range(10, 60)
  ]
  lengths = {"inputs": 64, "targets": 16}
  return data_peers.Inputs(documents, pairs, lengths, 4, vocabularies.sentencepiece())


@pytest.mark.slow
@pytest.mark.parametrize(
  ("peer", "shapes", "tokens"),
  zip(
    data_peers.PEERS,
    [
      {"encoder_input_tokens": (4, 512), "decoder_target_tokens": (4, 114)},
      {"encoder_input_tokens": (4, 512)},
      {"decoder_target_tokens": (4, 1024)},
      *[{"encoder_input_tokens": (4, 64), "decoder_target_tokens": (4, 16)}] * 3,
    ],
    [4 * 568, 4 * 512, 4 * 1024, None, None, None],
    strict=True,
  ),
  ids=lambda value: getattr(value, "label", ""),
)
def test_batches(peer, shapes, tokens):
  label, made = data_peers.measured(peer, inputs())
  if made is None:
    pytest.skip(label)
  batches, count = made
  batch = next(batches)
  for name, shape in shapes.items():
    assert batch[name].shape == shape
  filled = sum(np.count_nonzero(batch[name]) for name in shapes)
  assert count(batch) == (tokens or filled) > 0


def test_what_is_not_installed_is_named():
  peer = data_peers.Peer("packing of nothing", ("no_such_package",), lambda given: None)
  label, made = data_peers.measured(peer, None)
  assert label == "packing of nothing: not installed (no_such_package)" and made is None
