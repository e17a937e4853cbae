"""Hugging Face's tokenizers: the library's ids, padding without a token, saved positions."""

import json
import pickle

import numpy as np
import pytest
import seqio
import tensorflow as tf

from t5x_style.data import iterator, loader, model_ids, notebook
from t5x_style.data.objectives import causal_lm, masked_lm, text_infilling
from t5x_style.data.tokenizers import (
  huggingface_tokenizers,
  special_tokens,
  token_ids,
  token_text,
  vocabularies,
  words_and_sentences,
)
from t5x_style.errors import UserError
from tests.tokenizer_files import KINDS, TEXTS

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
  return {kind: make(tmp_path_factory.mktemp(kind)) for kind, make in KINDS.items()}


def theirs(path):
  tokenizer = tokenizers.Tokenizer.from_file(path)
  tokenizer.no_truncation()
  tokenizer.encode_special_tokens = True
  return tokenizer


def plain(path, text):
  """Returns the library's ids, and whether special tokens are among them."""
  ids = theirs(path).encode(text, add_special_tokens=False).ids
  special = {i for i, token in theirs(path).get_added_tokens_decoder().items() if token.special}
  return ids, bool(special & set(ids))


@pytest.mark.parametrize("kind", KINDS)
def test_ids_and_texts_are_the_librarys(files, kind):
  vocabulary = huggingface_tokenizers.hf_tokenizer(files[kind])
  compared = 0
  for text in TEXTS[:4]:
    wanted, special = plain(files[kind], text)
    ids = vocabulary.encode(text)
    ids_tf = vocabulary.encode_tf(tf.constant(text))
    assert ids_tf.dtype == tf.int32 and ids_tf.numpy().tolist() == ids
    marks = special_tokens.marks(vocabulary)
    assert not {i for i in ids if i in marks} - {vocabulary.unk_id}
    assert 0 not in ids and vocabulary.eos_id not in ids
    if not special:
      compared += 1
      assert vocabulary.model_ids[ids].tolist() == wanted
      assert vocabulary.own_ids(wanted).tolist() == ids
      assert vocabulary.decode(ids) == theirs(files[kind]).decode(wanted)
      assert vocabulary.decode_tf(tf.constant(ids, tf.int32)).numpy().decode() == vocabulary.decode(
        ids
      )
  assert compared >= 3


def test_texts_come_back_whole_from_bytes_and_sizes_add_up(files):
  for kind in ("byte_level", "roberta"):
    vocabulary = huggingface_tokenizers.hf_tokenizer(files[kind])
    for text in TEXTS[:4]:
      ids = vocabulary.encode(text)
      assert token_text.decode_visible(vocabulary, ids) == text
      assert token_text.token_bytes(vocabulary)[ids].sum() == len(text.encode())
      sizes = model_ids.token_bytes(vocabulary)
      assert sizes.shape == (vocabulary.model_vocab_size,)
      assert sizes[plain(files[kind], text)[0]].sum() == len(text.encode())
  bert = huggingface_tokenizers.hf_tokenizer(files["wordpiece"])
  assert model_ids.token_bytes(bert) is None  # spaces and capitals are lost
  t5 = huggingface_tokenizers.hf_tokenizer(files["unigram"])
  assert token_text.decode_visible(t5, t5.encode("the lazy dog")) == " the lazy dog"


def test_what_special_tokens_are_called(files):
  bert = huggingface_tokenizers.hf_tokenizer(files["wordpiece"])
  names = ("[CLS]", "[SEP]", "[MASK]")
  assert [special_tokens.special_id(bert, name) for name in names] == [2, 3, 4]
  assert (bert.pad_id, bert.unk_id, bert.eos_id) == (0, 1, 3)
  assert not model_ids.renumbers(bert) and model_ids.special_ids(bert) == (0, 3, 0)

  own = huggingface_tokenizers.hf_tokenizer(files["roberta"])
  assert [own.model_ids[special_tokens.special_id(own, name)] for name in names] == [0, 2, 4]
  assert model_ids.special_ids(own) == (1, 2, 0) and own.model_ids[0] == 1
  assert special_tokens.marks(own)[special_tokens.special_id(own, "[MASK]")] == "<mask>"

  gpt2 = huggingface_tokenizers.hf_tokenizer(files["byte_level"])
  end = gpt2.model_vocab_size - 1
  assert model_ids.special_ids(gpt2) == (-1, end, end)
  assert gpt2.vocab_size == gpt2.model_vocab_size + 1
  (exclamation,) = gpt2.encode("!")
  assert gpt2.model_ids[exclamation] == 0 and exclamation > 0
  with pytest.raises(ValueError, match=r"has no special token '\[MASK\]'.*SPECIAL_TOKENS"):
    special_tokens.special_id(gpt2, "[MASK]")
  longer = huggingface_tokenizers.hf_tokenizer(files["byte_level"], 10, ("[MASK]",))
  assert longer.model_ids[special_tokens.special_id(longer, "[MASK]")] == end + 1
  assert longer.extra_ids == 9 and longer.model_vocab_size == end + 11
  assert longer.model_ids[special_tokens.sentinel_ids(longer)[0]] == end + 10

  t5 = huggingface_tokenizers.hf_tokenizer(files["unigram"])
  assert not model_ids.renumbers(t5) and t5.extra_ids == 20
  for k in (0, 19):
    i = special_tokens.sentinel_ids(t5)[k]
    assert theirs(files["unigram"]).id_to_token(i) == f"<extra_id_{k}>"
    assert token_text.decode_visible(t5, [i]) == f"<extra_id_{k}>"


def test_words_and_sentence_ends_of_wordpiece(files):
  """Ideographs and punctuation are words; a bracket after a full stop belongs to its sentence."""
  vocabulary = huggingface_tokenizers.hf_tokenizer(files["wordpiece"])
  spelling = words_and_sentences.WordsAndSentences(token_ids.of(vocabulary))
  ids = vocabulary.encode("jumps brownrown . ) 漢字 over .")
  tokens = tf.constant([ids])
  words = spelling.word_ids(tokens).numpy()[0]
  pieces_of = [token_text.id_bytes(vocabulary)[i].decode() for i in ids]
  begins = [0] + [i for i in range(1, len(ids)) if words[i] > words[i - 1]]
  assert begins == [i for i, piece in enumerate(pieces_of) if piece.startswith(" ") or not piece]
  ends = spelling.sentence_ends(tokens).numpy()[0]
  assert ends[-1] and ends.sum() == 2


def test_characters_cut_by_byte_level_pieces_are_whole_in_words(files):
  vocabulary = huggingface_tokenizers.hf_tokenizer(files["byte_level"])
  spelling = words_and_sentences.WordsAndSentences(token_ids.of(vocabulary))
  text = "हिन्दी भाषा। naïve cafe\u0301s 中国。"
  ids = vocabulary.encode(text)
  assert len(ids) > len(text)  # most characters are cut into bytes
  words = spelling.word_ids(tf.constant([ids])).numpy()[0]
  found = [
    token_text.decode_visible(vocabulary, np.array(ids)[words == i]).strip()
    for i in range(words[-1] + 1)
  ]
  expected = ["हिन्दी", "भाषा", "।", "naïve", "cafe\u0301s", "中", "国", "。"]
  assert [word for word in found if word] == expected
  ends = np.flatnonzero(spelling.sentence_ends(tf.constant([ids])).numpy()[0]) + 1
  sentences = [token_text.decode_visible(vocabulary, part) for part in np.split(ids, ends)]
  assert sentences == ["हिन्दी भाषा।", " naïve cafe\u0301s 中国。", ""]


def test_the_same_content_is_the_same_vocabulary(files):
  vocabulary = huggingface_tokenizers.hf_tokenizer(files["roberta"])
  again = pickle.loads(pickle.dumps(vocabulary))
  assert again == vocabulary and again.encode("a fox") == vocabulary.encode("a fox")
  assert vocabulary != huggingface_tokenizers.hf_tokenizer(files["bart"])
  assert json.loads(json.dumps(vocabularies.identity(vocabulary)))["vocab_size"] == 320


def test_padding_is_hidden_where_it_is_a_token_elsewhere(files):
  """As in BART, padding is 1 and a decoder starts with 2."""
  vocabulary = huggingface_tokenizers.hf_tokenizer(files["bart"])
  text = "<s>!" + TEXTS[0] * 2
  batch = notebook.corrupt(
    [text], text_infilling.TextInfilling(), vocabulary, {"inputs": 60, "targets": 80}
  )
  assert set(batch) >= {"encoder_segment_ids", "decoder_segment_ids"}
  end = 2
  for tokens, segments, inputs in zip(
    batch["decoder_target_tokens"],
    batch["decoder_segment_ids"],
    batch["decoder_input_tokens"],
    strict=True,
  ):
    n = int(segments.sum())
    assert segments.tolist() == [1] * n + [0] * (len(tokens) - n)
    assert tokens[n - 1] == end and (tokens[n:] == 1).all() and (tokens[:n] != 1).all()
    assert inputs[0] == 2 and inputs[1:n].tolist() == tokens[: n - 1].tolist()
  weights = batch["decoder_loss_weights"]
  np.testing.assert_array_equal(weights > 0, batch["decoder_segment_ids"] > 0)
  inputs, seen = batch["encoder_input_tokens"], batch["encoder_segment_ids"] > 0
  assert (inputs[~seen] == 1).all() and (inputs[seen] != 1).all()
  assert 4 in inputs[seen]  # <mask>


def test_special_tokens_are_never_masked_where_there_is_no_unknown(files):
  names = ("[CLS]", "[SEP]", "[MASK]")
  vocabulary = huggingface_tokenizers.hf_tokenizer(files["byte_level"], 3, names)
  assert vocabulary.unk_id is None
  end = vocabulary.model_vocab_size - 4
  batch = notebook.corrupt(
    ["! !! a!"] * 4, masked_lm.MaskedLM(mask_rate=0.9), vocabulary, {"inputs": 20}
  )
  targets, weights = batch["encoder_target_tokens"], batch["encoder_loss_weights"]
  special = (targets >= end) | (batch["encoder_segment_ids"] == 0)
  assert special.any() and (targets == end).any()
  assert not weights[special].any() and weights[~special].mean() > 0.5
  assert (targets[weights > 0] == 0).any()  # "!" is a token like others


def test_a_causal_model_sees_the_librarys_ids(files):
  """As in GPT-2, 0 is "!" and there is no padding."""
  vocabulary = huggingface_tokenizers.hf_tokenizer(files["byte_level"])
  end = vocabulary.model_vocab_size - 1
  batch = notebook.corrupt(["! !! a!", "!"], causal_lm.CausalLM(), vocabulary, {"targets": 16})
  first = plain(files["byte_level"], "! !! a!")[0]
  row = [*first, end, 0, end]
  n = len(row)
  assert batch["decoder_target_tokens"][0][:n].tolist() == row
  assert batch["decoder_segment_ids"][0].tolist() == [1] * (n - 2) + [2, 2] + [0] * (16 - n)
  assert batch["decoder_input_tokens"][0][:n].tolist() == [end, *first, end, 0]
  assert batch["decoder_loss_weights"][0].tolist() == [1.0] * n + [0.0] * (16 - n)


@pytest.mark.parametrize(
  "kind, objective, architecture, lengths",
  [
    pytest.param(
      *("roberta", masked_lm.MaskedLM(whole_word=True), "encoder_only", {"inputs": 32}),
      marks=pytest.mark.slow,
    ),
    ("byte_level", causal_lm.CausalLM(), "decoder_only", {"targets": 32}),
  ],
)
def test_a_run_is_repeatable_and_its_place_is_saved(
  files, corpus, kind, objective, architecture, lengths
):
  vocabulary = huggingface_tokenizers.hf_tokenizer(files[kind])

  def load():
    return loader.load(
      architecture,
      4,
      seed=1,
      corpus=corpus,
      vocabulary=vocabulary,
      objective=objective,
      feature_lengths=lengths,
      shuffle_buffer_size=64,
    )

  data = load()
  assert data.vocab_size == vocabulary.model_vocab_size
  stream = data.train()
  for _ in range(7):
    batch = next(stream)
  state = stream.get_state()
  ahead = [next(stream) for _ in range(5)]
  again = load().train()
  again.set_state(state)
  for wanted in ahead:
    found = next(again)
    assert found.keys() == wanted.keys()
    for name in wanted:
      np.testing.assert_array_equal(found[name], wanted[name])
  assert {name: (4, *x.shape[1:]) for name, x in batch.items()} == {
    name: x.shape for name, x in data.feature_shapes.items()
  }
  side = "encoder" if architecture == "encoder_only" else "decoder"
  text = data.decode(batch[f"{side}_target_tokens"][0])
  assert len(text) > 10
  assert max(batch[f"{side}_target_tokens"].max(), 0) < data.vocab_size


def test_documents_are_the_same_in_batches_and_one_by_one(files):
  vocabulary = huggingface_tokenizers.hf_tokenizer(files["unigram"])
  texts = [t.encode() for t in TEXTS[:35]] + [b"\xff bad"]
  documents = tf.data.Dataset.from_tensor_slices(texts).map(
    lambda text: {"text": text, "noise_seed": tf.constant([0, 0], tf.int64)}
  )
  rows = list(iterator.with_options(vocabulary.tokenize(documents)))
  assert len(rows) == len(texts)
  for row, text in zip(rows, texts, strict=True):
    wanted = vocabulary.encode(text.decode(errors="replace"))
    assert row["targets"].numpy().tolist() == wanted
  assert [bool(row["repaired"]) for row in rows] == [False] * 35 + [True]


def test_mistakes_are_named(files, tmp_path):
  with pytest.raises(UserError, match="there is no tokenizer"):
    huggingface_tokenizers.hf_tokenizer(str(tmp_path / "no"))
  (tmp_path / "tokenizer.json").write_text("{}")
  with pytest.raises(ValueError, match="is not a tokenizer.json"):
    huggingface_tokenizers.hf_tokenizer(str(tmp_path))
  with pytest.raises(ValueError, match="has no token '<end>', which is to be its 'eos'"):
    huggingface_tokenizers.hf_tokenizer(files["byte_level"], special_tokens={"eos": "<end>"})
  with pytest.raises(ValueError, match="20 sentinels of its own.*EXTRA_IDS = 0"):
    huggingface_tokenizers.hf_tokenizer(files["unigram"], 100)
  bare = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="b"))
  bare.save(str(tmp_path / "tokenizer.json"))
  with pytest.raises(ValueError, match="nothing says which token of .* ends a document"):
    huggingface_tokenizers.hf_tokenizer(str(tmp_path))
  assert isinstance(
    huggingface_tokenizers.hf_tokenizer(str(tmp_path), special_tokens={"eos": "a"}),
    seqio.Vocabulary,
  )
