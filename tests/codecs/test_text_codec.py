"""Codecs give the ids that a run's SeqIO vocabulary gives, and their texts, for every kind."""

import numpy as np
import pytest
import tensorflow as tf

from t5x_style.codecs import vocabulary_folder
from t5x_style.data import model_ids, tasks
from t5x_style.data.tokenizers import special_tokens, token_text, vocabularies
from t5x_style.data.tokenizers.base import codec_of
from t5x_style.errors import UserError
from tests.codecs.conftest import HARD

KINDS = ["shipped", "borrowed", "bytes", "seqio", "seqio bytes"]
KINDS += ["wordpiece", "byte_level", "roberta", "bart", "unigram"]


@pytest.fixture(params=KINDS)
def vocabulary(request, seqio_vocabularies):
  return seqio_vocabularies[request.param]


@pytest.fixture
def codec(vocabulary, tmp_path):
  """The codec that is read from the folder that a run writes."""
  identity = vocabularies.identity(vocabulary)
  vocabulary_folder.write(tmp_path / "vocabulary", codec_of(vocabulary), identity)
  found = vocabulary_folder.read(tmp_path / "vocabulary")
  assert found.identity == identity
  return found.codec


def test_ids_are_those_of_the_run(vocabulary, codec, model_ids_of):
  """A run tokenises inside tf.data, where some kinds have other code than vocabulary.encode."""
  documents = tf.data.Dataset.from_tensor_slices({"text": HARD})
  of_run = [x["targets"].numpy() for x in tasks.tokenize(documents, vocabulary)]
  for text, ids in zip(HARD, of_run, strict=True):
    assert codec.encode(text) == model_ids_of(vocabulary, ids), text
    assert all(type(i) is int for i in codec.encode(text))
    assert codec.decode(codec.encode(text)) == vocabulary.decode(ids.tolist())
    assert codec.decode_visible(codec.encode(text)) == token_text.decode_visible(vocabulary, ids)


def test_special_ids_are_those_of_the_run(vocabulary, codec, model_ids_of):
  assert (codec.pad_id, codec.eos_id, codec.start_id) == tuple(model_ids.special_ids(vocabulary))
  assert codec.vocab_size == model_ids.vocab_size(vocabulary)
  sentinels = special_tokens.sentinel_ids(vocabulary)
  assert codec.sentinel_ids.tolist() == model_ids_of(vocabulary, sentinels)
  for token in ("[MASK]", "[CLS]", "[A]", "[B]", "[X]", "[NO]"):
    try:
      wanted = special_tokens.special_id(vocabulary, token)
    except UserError as error:
      with pytest.raises(UserError) as raised:
        codec.special_id(token)
      assert str(raised.value) == str(error)
    else:
      assert [codec.special_id(token)] == model_ids_of(vocabulary, [wanted])
  sizes = model_ids.token_bytes(vocabulary)
  assert (codec.token_bytes is None) == (sizes is None)
  assert sizes is None or np.array_equal(codec.token_bytes, sizes)


def test_pieces_show_what_decode_leaves_out(vocabulary, codec):
  text = codec.encode("a b")
  ids = [*text, codec.eos_id, *codec.sentinel_ids[:1], *codec.encode("c")]
  pieces = codec.pieces(ids)
  assert len(pieces) == len(ids) and "".join(pieces) == codec.decode_visible(ids)
  assert codec.decode(ids) == codec.decode(text)
  if len(codec.sentinel_ids):
    assert "<extra_id_0>" in pieces
  if codec.pad_id >= 0:
    assert codec.pieces([codec.pad_id]) == [""]
  assert codec.decode_visible([codec.vocab_size, -1]) == "<unk>"
