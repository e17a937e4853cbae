"""The ids of a vocabulary and of its codec are the same, and so are the model's ids of a batch."""

import numpy as np
import pytest

from t5x_style.data import converters, model_ids
from t5x_style.data.tensorflow_setup import tf
from t5x_style.data.tokenizers import huggingface_tokenizers, token_ids, vocabularies
from t5x_style.data.tokenizers.base import codec_of

pytest.importorskip("tokenizers")

from tests.tokenizer_files import KINDS

VOCABULARIES = {
  "sentencepiece": lambda _: vocabularies.sentencepiece(extra_ids=20),
  "bytes": lambda _: vocabularies.byte_vocabulary(8, ("[MASK]",)),
}


def read(kind, folder):
  if kind in VOCABULARIES:
    return VOCABULARIES[kind](folder)
  return huggingface_tokenizers.hf_tokenizer(KINDS[kind](folder))


@pytest.mark.parametrize("kind", [*VOCABULARIES, *KINDS])
def test_a_codec_is_enough(kind, tmp_path):
  vocabulary = read(kind, tmp_path)
  ids = token_ids.of_codec(codec_of(vocabulary))
  assert (ids.vocab_size, ids.eos_id, ids.unk_id, ids.sentinels) == (
    vocabulary.vocab_size,
    vocabulary.eos_id,
    vocabulary.unk_id,
    vocabulary.extra_ids,
  )
  assert ids.special_ids == model_ids.special_ids(vocabulary)
  assert ids.renumbered == model_ids.renumbers(vocabulary)
  assert ids.codec.vocab_size == model_ids.vocab_size(vocabulary)
  text = "the lazy dog, naïve"
  own = vocabulary.encode(text)
  assert ids.own(ids.codec.encode(text)).tolist() == own
  assert ids.decode_visible(own) == ids.codec.decode_visible(ids.codec.encode(text))


@pytest.mark.parametrize("kind", [*VOCABULARIES, *KINDS])
def test_batches_get_the_same_model_ids_with_numpy_and_tensorflow(kind, tmp_path):
  ids = token_ids.of(read(kind, tmp_path))
  random = np.random.default_rng(0)
  targets = random.integers(1, ids.vocab_size, (5, 12)).astype(np.int32)
  targets[:, 9:] = 0
  batch = {"inputs": targets[:, ::-1][:, 3:], "targets": targets}
  batch = converters.convert(batch, "encoder_decoder", {"inputs": 9, "targets": 12})
  found = model_ids.converted(batch, ids)
  wanted = model_ids.converted({k: tf.constant(v) for k, v in batch.items()}, ids)
  assert found.keys() == wanted.keys()
  for name, value in found.items():
    assert value.dtype == wanted[name].numpy().dtype
    np.testing.assert_array_equal(value, wanted[name].numpy())
  assert ids.own(found["decoder_target_tokens"])[:, :9].tolist() == targets[:, :9].tolist()
