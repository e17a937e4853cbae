"""Tokenizers made from a run's vocabulary: the package tokenizers gives the same ids."""

import inspect
import json
import sys
import textwrap

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

import t5x_style
from t5x_style.codecs import published_tokenizers
from t5x_style.errors import UserError
from t5x_style.interop.huggingface import tokenizer_export
from t5x_style.interop.huggingface.tokenizer_export import RunVocabulary

SHIPPED = f"{next(iter(t5x_style.__path__))}/data/tokenizers/vocabulary_files/python_stdlib.model"
TEXTS = [inspect.getsource(module) for module in (textwrap, inspect, json.decoder)]
TEXTS += ["", " ", "  a\t\r\n  b ", "naïve 日本語 🙂 \u2581 <0x41> [MASk]", "x" * 300]


@pytest.fixture(scope="module")
def shipped():
  with open(SHIPPED, "rb") as file:
    return file.read()


def test_ids_and_text_of_the_shipped_vocabulary(tmp_path, shipped):
  ids = tokenizer_export.write(
    tmp_path, RunVocabulary(shipped, 128, ("[NLU]",)), architecture="encoder_only"
  )
  processor = sentencepiece.SentencePieceProcessor(model_proto=shipped)
  tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  assert tokenizer.get_vocab_size() == 8320
  assert tokenizer.token_to_id("<extra_id_0>") == 8319
  assert tokenizer.token_to_id("<extra_id_126>") == 8193
  assert tokenizer.token_to_id("[NLU]") == 8192
  for text in TEXTS:
    encoded = tokenizer.encode(text, add_special_tokens=False).ids
    assert encoded == processor.encode(text), text[:40]
    assert tokenizer.decode(encoded, skip_special_tokens=False) == text
  assert ids["mask_token_id"] == processor.piece_to_id("[MASK]")
  around = tokenizer.encode("a [MASK]").tokens
  assert around[0] == "[CLS]" and around[-2:] == ["[MASK]", "[SEP]"]


@pytest.mark.parametrize(
  ("architecture", "first", "last"),
  [("decoder_only", [0], []), ("encoder_decoder", [], [1])],
)
def test_special_tokens_around_a_text(tmp_path, shipped, architecture, first, last):
  ids = tokenizer_export.write(tmp_path, RunVocabulary(shipped, 10), architecture)
  tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  plain = tokenizer.encode("import os", add_special_tokens=False).ids
  assert tokenizer.encode("import os").ids == [*first, *plain, *last]
  assert ids.get("bos_token_id") == (0 if first else None) and ids["eos_token_id"] == 1


def test_bytes(tmp_path):
  tokenizer_export.write(tmp_path, RunVocabulary(None, 125), "encoder_decoder")
  tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  for text in TEXTS:
    encoded = tokenizer.encode(text, add_special_tokens=False).ids
    assert encoded == [3 + byte for byte in text.encode()]
    assert tokenizer.decode(encoded) == text
  assert tokenizer.token_to_id("<extra_id_0>") == 383


def test_a_vocabulary_as_t5_has_it(tmp_path):
  """Spaces as U+2581, a dummy prefix, merged spaces, NFKC, and user-defined pieces."""
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter("\n".join(TEXTS).splitlines()),
    model_prefix=str(tmp_path / "t5"),
    vocab_size=600,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    user_defined_symbols=["[R]"],
    minloglevel=2,
  )
  content = (tmp_path / "t5.model").read_bytes()
  tokenizer_export.write(tmp_path, RunVocabulary(content, 100), "encoder_decoder")
  processor = sentencepiece.SentencePieceProcessor(model_proto=content)
  tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  for text in ["def f(x):", "  two  spaces ", "ﬁne ① text", *TEXTS[0].splitlines()[:80]]:
    assert tokenizer.encode(text, add_special_tokens=False).ids == processor.encode(text), text


SYMBOLS = ["<sep>", "NewYork", "re", "3", "日本", "🙂", "\u2581the", "[MASK]", "\u2581<extra_id_1>"]
# Characters that normalisation changes in texts.
SYMBOLS += ["\n", "①", "\t"]


@pytest.mark.parametrize(
  "options",
  [
    {},
    {"byte_fallback": True, "vocab_size": 700},
    {"add_dummy_prefix": False, "split_digits": True, "normalization_rule_name": "nfkc"},
    {"normalization_rule_name": "nmt_nfkc_cf", "character_coverage": 1.0},
  ],
)
def test_user_defined_pieces(tmp_path, options):
  """They are found everywhere in a text, before all other pieces."""
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter("\n".join(TEXTS).splitlines()),
    model_prefix=str(tmp_path / "own"),
    user_defined_symbols=SYMBOLS,
    minloglevel=2,
    **{"vocab_size": 500, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1} | options,
  )
  content = (tmp_path / "own.model").read_bytes()
  tokenizer_export.write(tmp_path, RunVocabulary(content, 0), "encoder_decoder")
  processor = sentencepiece.SentencePieceProcessor(model_proto=content)
  tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
  plain = [s.replace("\u2581", " ") for s in SYMBOLS if s != "[MASK]"]
  texts = [f"{a}{b} {a} {b}x{a}  return{b}" for a in plain for b in [*plain, "return", ""]]
  for text in texts:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert ids == processor.encode(text), text
  assert tokenizer.encode("a[MASK]b").tokens.count("[MASK]") == 1
  lines = tokenizer.encode("the end\n<sep>\treturn\n").ids
  assert tokenizer.decode(lines) == "the end\n<sep>\treturn\n"


def test_sentinels_in_the_model(tmp_path):
  """mT5's file has its sentinels; to T5's, transformers appends those of its config."""
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS[0].splitlines()),
    model_prefix=str(tmp_path / "spiece"),
    vocab_size=300,
    minloglevel=2,
  )
  folder = tmp_path / "spiece.model"
  assert tokenizer_export.appended_sentinels(tmp_path) == 100
  (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": 7}')
  assert tokenizer_export.appended_sentinels(tmp_path) == 7
  model = sentencepiece_model_pb2.ModelProto.FromString(folder.read_bytes())
  for k in (1, 0):
    model.pieces.add(piece=f"\u2581<extra_id_{k}>", type=model.SentencePiece.USER_DEFINED)
  folder.write_bytes(model.SerializeToString())
  assert tokenizer_export.appended_sentinels(tmp_path) == 0


def test_a_tokenizer_that_differs_is_not_written(tmp_path):
  """A piece with a space in it is never found, but saves its capitals from normalisation."""
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS[0].splitlines()),
    model_prefix=str(tmp_path / "capitals"),
    user_defined_symbols=["New York"],
    normalization_rule_name="nmt_nfkc_cf",
    minloglevel=2,
    vocab_size=300,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
  )
  (tmp_path / "new").mkdir()
  vocabulary = RunVocabulary((tmp_path / "capitals.model").read_bytes(), 10)
  with pytest.raises(ValueError, match="reads .*New York.* differently"):
    tokenizer_export.write(tmp_path / "new", vocabulary, "encoder_decoder")
  assert not [*(tmp_path / "new").iterdir()]


def test_a_kind_that_a_tokenizer_json_cannot_have_is_named(tmp_path):
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(TEXTS[0].splitlines()),
    model_prefix=str(tmp_path / "bpe"),
    model_type="bpe",
    vocab_size=300,
    minloglevel=2,
  )
  vocabulary = RunVocabulary((tmp_path / "bpe.model").read_bytes(), 0)
  with pytest.raises(ValueError, match="of the kind BPE"):
    tokenizer_export.write(tmp_path, vocabulary, "encoder_decoder")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
  monkeypatch.setattr(sys, "meta_path", [])
  monkeypatch.delitem(sys.modules, "tokenizers")
  with pytest.raises(UserError, match=r"pip install 't5x_style\[interop\]'"):
    tokenizer_export.write(tmp_path, RunVocabulary(None, 0), "decoder_only")


@pytest.mark.parametrize(
  ("lower_case", "beside"), [(False, {}), (True, {"do_lower_case": False, "model_max_length": 77})]
)
def test_the_vocab_txt_of_a_run_is_read_alike_by_transformers(tmp_path, lower_case, beside):
  """LOWER_CASE of the run counts, whatever was beside its file."""
  transformers = pytest.importorskip("transformers")
  source, target = tmp_path / "source", tmp_path / "target"
  source.mkdir()
  target.mkdir()
  special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  (source / "vocab.txt").write_text("\n".join([*special, "The", "the", "fox", "##es"]))
  if beside:
    (source / "tokenizer_config.json").write_text(json.dumps(beside))
  published = published_tokenizers.read(source, lower_case)
  names = tokenizer_export.copy(source, target) + tokenizer_export.write_published(
    published, target
  )
  assert set(names) == {"vocab.txt", "tokenizer.json", "tokenizer_config.json"}
  (target / "config.json").write_text('{"model_type": "bert"}')
  theirs = transformers.AutoTokenizer.from_pretrained(target)
  assert theirs("The foxes")["input_ids"] == [2, 6 if lower_case else 5, 7, 8, 3]
  assert (theirs.pad_token_id, theirs.mask_token_id) == (0, 4)
  assert theirs.model_max_length == beside.get("model_max_length", theirs.model_max_length)
