"""tokenizer.json files: texts they cannot encode, special tokens in texts, odd numbers."""

import json
import re

import pytest

from t5x_style.data import model_ids
from t5x_style.data.tokenizers import huggingface_tokenizers, special_tokens

tokenizers = pytest.importorskip("tokenizers")
LETTERS = [*"</s>abc", "\u2581"]


def opened(folder, tokenizer, change=None, **settings):
  """Opens a tokenizer whose file was changed before, with settings of tokenizer_config.json."""
  content = json.loads(tokenizer.to_str())
  if change:
    change(content)
  (folder / "tokenizer.json").write_text(json.dumps(content))
  (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"} | settings))
  return huggingface_tokenizers.hf_tokenizer(str(folder))


def numbered(*tokens):
  return {token: i for i, token in enumerate(tokens)}


def unigram(special=("<pad>", "</s>"), unk_id=None):
  pieces = [(token, 0.0) for token in special] + [(c, -3.0) for c in LETTERS]
  tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
  return tokenizer


def of(model):
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  return tokenizer


VOCAB = numbered("<pad>", "</s>", *LETTERS)


@pytest.mark.parametrize(
  ("tokenizer", "setting"),
  [
    (unigram(), '"unk_id"'),
    (of(tokenizers.models.BPE(VOCAB, [], unk_token="<unk>")), '"unk_token"'),
    (of(tokenizers.models.WordPiece(VOCAB, unk_token="[UNK]")), '"unk_token"'),
    (of(tokenizers.models.WordLevel(VOCAB, unk_token="<unk>")), '"unk_token"'),
  ],
)
def test_one_that_fails_at_some_text_is_refused(tmp_path, tokenizer, setting):
  tokenizer.encode("a")  # Of texts that it knows it says nothing.
  with pytest.raises(ValueError, match=f"cannot encode every text: at .* Fix {setting} under"):
    opened(tmp_path, tokenizer)


def test_one_that_fails_at_long_words_only_is_refused(tmp_path):
  """Even if WordPiece knows every character, a word of a thousand letters is unknown."""
  known = [chr(c) for c in range(0x20, 0x20000) if not 0xD800 <= c < 0xE000]
  model = tokenizers.models.WordPiece(
    numbered("</s>", *known, *(f"##{c}" for c in known)), unk_token="[UNK]"
  )
  with pytest.raises(ValueError, match="at 'aaaaaaaa'... it fails"):
    opened(tmp_path, of(model))


def spelt(vocabulary, text):
  """Returns the tokens of a text and checks that none of them is special."""
  numbers = vocabulary.model_ids[vocabulary.encode(text)].tolist()
  return [vocabulary.codec.tokenizer.id_to_token(i) for i in numbers]


TEXTS = ("</s>", "a</s>b", "</s></s>", " </s> c")


@pytest.mark.parametrize("kind", ["unknown", "bytes", "byte level"])
def test_special_tokens_in_a_text_are_its_letters_for_unigram(tmp_path, kind):
  """The model has a piece for them, which scores best of all."""
  special = ("<pad>", "</s>", "<unk>")
  tokenizer = unigram(special, 2)
  if kind == "bytes":
    pieces = [(token, 0.0) for token in special] + [(c, -3.0) for c in [*LETTERS, "u", "n", "k"]]
    pieces += [(f"<0x{byte:02X}>", -9.0) for byte in range(256)]
    tokenizer.model = tokenizers.models.Unigram(pieces, 2, byte_fallback=True)
  if kind == "byte level":  # It knows every text, and has no unknown token.
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    pieces = [(token, 0.0) for token in special] + [(c, -3.0) for c in byte_level.alphabet()]
    tokenizer.model = tokenizers.models.Unigram(pieces, None)
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False, use_regex=False)
  assert "</s>" in tokenizer.encode("a</s>b").tokens
  vocabulary = opened(tmp_path, tokenizer, pad_token="<pad>", unk_token="<unk>")
  for text in TEXTS:
    tokens = spelt(vocabulary, text)
    assert not {*tokens} & {*special}, tokens
    assert re.sub("[\u2581Ġ]", "", "".join(tokens)) == text.replace(" ", "")
  if kind != "unknown":
    tokens = spelt(vocabulary, "a<unk>b<pad>")
    assert not {*tokens} & {*special} and "".join(tokens[-5:]) in ("<pad>", "<<0x70>a<0x64>>")


def test_special_tokens_in_a_text_that_are_words(tmp_path):
  """WordLevel, WordPiece and BPE without pre-tokenizer can have the very word."""
  vocab = numbered("[UNK]", "</s>", *LETTERS, "##s", "##>", "##/")
  for model in (
    tokenizers.models.WordLevel(vocab, unk_token="[UNK]"),
    tokenizers.models.WordPiece(vocab, unk_token="[UNK]"),
    tokenizers.models.BPE(
      numbered(*vocab, "s>", "/s>"), [("s", ">"), ("/", "s>"), ("<", "/s>")], ignore_merges=True
    ),
  ):
    tokenizer = of(model)
    assert "</s>" in tokenizer.encode("a </s>").tokens
    vocabulary = opened(tmp_path, tokenizer)
    for text in TEXTS:
      assert vocabulary.eos_id not in vocabulary.encode(text), (model, text)
    assert len(vocabulary.encode("</s>")) > 1
    assert "".join(spelt(vocabulary, "</s>")).replace("#", "") in ("</s>", "[UNK][UNK]", "<[UNK]")


def test_tokens_that_only_the_files_beside_it_call_special(tmp_path):
  """Of each role, though tokenizer.json has them as pieces like others."""
  roles = {f"{role}_token": f"<{role}>" for role in ("eos", "bos", "pad", "unk", "cls", "mask")}
  pieces = [*roles.values(), *"<>abcdeoskmnpul "]
  tokenizer = tokenizers.Tokenizer(
    tokenizers.models.Unigram([(piece, -float(len(piece) == 1)) for piece in pieces], 3)
  )
  text = " ".join(roles.values())
  assert {*roles.values()} <= {*tokenizer.encode(text).tokens}
  vocabulary = opened(tmp_path, tokenizer, **roles)
  assert "".join(spelt(vocabulary, text)) == text and len(vocabulary.encode(text)) > 30


def test_a_token_with_a_role_is_in_no_text(tmp_path):
  """Added tokens that are not declared special are found in texts, [MASK] never is."""
  tokenizer = of(tokenizers.models.BPE(numbered("</s>", *"<mask>tr"), []))
  tokenizer.add_tokens(["<mask>", "<tr>"])
  vocabulary = opened(tmp_path, tokenizer, mask_token="<mask>")
  assert spelt(vocabulary, "a<mask> <tr>") == ["a", "<", "m", "a", "s", "k", ">", "<tr>"]
  assert special_tokens.special_id(vocabulary, "[MASK]") not in vocabulary.encode("<mask>")


def test_added_tokens_far_above_the_last_one(tmp_path):
  """They are renumbered without a gap, as the library and transformers do, with a warning."""
  tokenizer = of(tokenizers.models.BPE(numbered("</s>", "a", "b"), []))
  tokenizer.add_special_tokens(["<far>"])

  def move(content):
    content["added_tokens"][0]["id"] = 5000

  with pytest.warns(UserWarning, match="'<far>' is 3, not 5000"):
    vocabulary = opened(tmp_path, tokenizer, move, pad_token="<far>")
  assert model_ids.special_ids(vocabulary).pad == 3 and vocabulary.model_vocab_size == 4
  transformers = pytest.importorskip("transformers")
  theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
  assert theirs.convert_tokens_to_ids("<far>") == 3


def test_sentinels_as_pieces_of_the_model(tmp_path):
  """mT5's tokenizer.json, converted by transformers, has such pieces."""
  pieces = ("<pad>", "</s>", "<unk>", "\u2581<extra_id_1>", "\u2581<extra_id_0>")
  vocabulary = opened(tmp_path, unigram(pieces, 2))
  assert vocabulary.extra_ids == 2
  assert [vocabulary.model_ids[special_tokens.sentinel_ids(vocabulary)[k]] for k in (0, 1)] == [
    4,
    3,
  ]
  assert not {*vocabulary.encode("a <extra_id_0> b")} & {*special_tokens.sentinel_ids(vocabulary)}


@pytest.mark.parametrize(
  ("file", "content", "message"),
  [
    ("tokenizer_config.json", "{", "tokenizer_config.json is not a JSON file"),
    ("config.json", "[1]", "config.json is not a JSON file of settings"),
    ("special_tokens_map.json", '{"pad_token": 3}', "pad_token = 3 .* has to be a text"),
    ("config.json", '{"decoder_start_token_id": 99}', "no token 99, which is to be its 'start'"),
  ],
)
def test_files_beside_it_that_make_no_sense(tmp_path, file, content, message):
  opened(tmp_path, of(tokenizers.models.BPE(VOCAB, [])))
  (tmp_path / file).write_text(content)
  with pytest.raises(ValueError, match=message):
    huggingface_tokenizers.hf_tokenizer(str(tmp_path))
