"""BERT's vocab.txt and GPT-2's vocab.json: transformers' ids, and what cannot be read is named."""

import inspect
import json

import pytest

from t5x_style.codecs import published_tokenizers
from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec
from t5x_style.errors import UserError
from tests.tokenizer_files import TEXTS

tokenizers = pytest.importorskip("tokenizers")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
REAL = [
  *TEXTS[:1],
  inspect.getsource(json.decoder),
  "Ünïcode ÉCOLE 漢字ab \u200b\x00 ½ \ufffd",
  "",
  " ",
]


@pytest.fixture(scope="module")
def pieces():
  """{whether in lower case: the pieces of a vocab.txt that was trained on REAL}"""

  def train(lower_case):
    t = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    t.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower_case)
    t.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(
      vocab_size=300, special_tokens=SPECIAL, show_progress=False
    )
    t.train_from_iterator(REAL, trainer)
    return sorted(t.get_vocab(), key=t.token_to_id)

  return {lower_case: train(lower_case) for lower_case in (True, False)}


@pytest.fixture
def wordpiece(pieces, tmp_path):
  """Writes a vocab.txt, and tokenizer_config.json beside it if there are settings."""

  def write(lower_case=True, lines=None, **settings):
    lines = pieces[lower_case] if lines is None else lines
    (tmp_path / "vocab.txt").write_text("".join(f"{line}\n" for line in lines))
    if settings:
      (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path / "vocab.txt"

  return write


@pytest.fixture
def of_bytes(tmp_path):
  """Writes a vocab.json and merges.txt with special tokens."""

  def write(*special, **settings):
    t = tokenizers.Tokenizer(tokenizers.models.BPE())
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
      vocab_size=400,
      special_tokens=list(special),
      initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
      show_progress=False,
    )
    t.train_from_iterator(REAL, trainer)
    t.model.save(str(tmp_path))
    if settings:
      (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path / "vocab.json"

  return write


def codec(path, **options):
  found = published_tokenizers.read(path, **options)
  return TokenizerJsonCodec(found.content, str(found.file), found.tokens)


def check_equal(found, theirs, texts=REAL):
  """Ids and framing are those of a tokenizer of transformers."""
  assert any(found.encode(text) for text in texts)
  for text in texts:
    assert found.encode(text) == theirs.encode(text, add_special_tokens=False)
  framed = found.tokenizer.encode("a", "b", add_special_tokens=True).ids
  assert framed == theirs("a", "b")["input_ids"]


@pytest.mark.parametrize("lower_case", [True, False])
@pytest.mark.parametrize(
  "settings", [{}, {"strip_accents": False, "tokenize_chinese_chars": False}]
)
def test_ids_of_a_vocab_txt_are_those_of_bert_tokenizer(wordpiece, lower_case, settings):
  transformers = pytest.importorskip("transformers")

  settings = {"do_lower_case": lower_case, **settings}
  file = wordpiece(lower_case, **settings)
  theirs = transformers.BertTokenizer(vocab=str(file), **settings)
  found = codec(file)
  check_equal(found, theirs)
  assert found.vocab_size == len(theirs)
  assert [found.special_id(name) for name in SPECIAL[2:]] == [2, 3, 4]
  assert (found.pad_id, found.unknown_id, found.eos_id) == (0, 1, 3)


@pytest.mark.parametrize(
  ("family", "special"),
  [("GPT2", ["<|endoftext|>"]), ("Roberta", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])],
)
def test_ids_of_a_vocab_json_are_those_of_its_tokenizer(of_bytes, family, special):
  transformers = pytest.importorskip("transformers")

  file = of_bytes(*special)
  kind = getattr(transformers, f"{family}Tokenizer")
  check_equal(codec(file), kind(vocab=str(file), merges=str(file.parent / "merges.txt")))


def test_capitals_decide_where_nothing_says_whether_text_becomes_lower_case(wordpiece):
  assert published_tokenizers.read(wordpiece(True)).lower_case is True
  file = wordpiece(False)
  assert published_tokenizers.read(file).lower_case is False
  cased, lowered = codec(file), codec(file, lower_case=True)
  assert cased.encode("The") != cased.encode("the") == lowered.encode("The")
  wordpiece(False, do_lower_case=True)
  assert published_tokenizers.read(file).lower_case is True
  assert published_tokenizers.read(file, lower_case=False).lower_case is False


def test_the_same_files_are_the_same_vocabulary(wordpiece, tmp_path):
  """A line end of Windows and a missing last one change nothing; an equal line counts last."""
  content = published_tokenizers.read(wordpiece()).content
  lines = (tmp_path / "vocab.txt").read_text().split()
  (tmp_path / "vocab.txt").write_bytes("\r\n".join(lines).encode())
  again = published_tokenizers.read(tmp_path)
  assert again.content == content and again.converted
  assert json.loads(content)["model"]["vocab"] == {line: i for i, line in enumerate(lines)}
  assert codec(wordpiece(lines=[*SPECIAL, "a", "b", "a"])).encode("a b") == [7, 6]


def test_roles_come_from_the_files(of_bytes, wordpiece):
  gpt2 = codec(of_bytes("<|endoftext|>"))
  assert gpt2.eos_id == gpt2.start_id == 0 and gpt2.pad_id == -1
  roberta = codec(of_bytes("<s>", "<pad>", "</s>", "<unk>", "<mask>").parent / "merges.txt")
  assert (roberta.pad_id, roberta.eos_id, roberta.special_id("[MASK]")) == (1, 2, 4)
  assert roberta.encode("<mask>") != [4]  # in a text these are six letters
  other = ["<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "a"]
  roles = {f"{name[1:-1]}_token": name for name in other[:-1]}
  electra = codec(wordpiece(lines=other, **roles))
  assert electra.encode("a ?") == [5, 1] and electra.special_id("[CLS]") == 2
  assert electra.tokenizer.encode("a").ids == [2, 5, 3]


def test_a_folder_and_a_tokenizer_json(wordpiece, tmp_path):
  file = wordpiece()
  content = published_tokenizers.read(file).content
  assert published_tokenizers.read(tmp_path).file == file
  (tmp_path / "tokenizer.json").write_text(content + "\n")
  found = published_tokenizers.read(tmp_path)
  assert found.content == content + "\n" and not found.converted and found.lower_case is None
  with pytest.raises(UserError, match="LOWER_CASE = True is for a vocab.txt"):
    published_tokenizers.read(tmp_path, lower_case=True)


def test_mistakes_are_named(wordpiece, of_bytes, tmp_path):
  def refused(message, file=tmp_path / "vocab.txt"):
    with pytest.raises(UserError, match=message):
      published_tokenizers.read(file)

  refused("there is no tokenizer")
  wordpiece(lines=["a", "b"])
  refused(r"has no line \[UNK\]")
  (tmp_path / "vocab.txt").write_bytes(b"[UNK]\n\xff\n")
  refused("not a vocab.txt in UTF-8")
  wordpiece(unk_token="<nothing>")
  refused("has no line '<nothing>'")
  wordpiece(tokenizer_class="BertJapaneseTokenizer")
  refused("is for a BertJapaneseTokenizer.*save_pretrained")
  wordpiece(tokenizer_class="BertTokenizerFast", added_tokens_decoder={"9": {"content": "[NEW]"}})
  refused(r"add tokens that it does not have: '\[NEW\]'")

  (tmp_path / "tokenizer_config.json").unlink()
  file = of_bytes("<|endoftext|>")
  (tmp_path / "merges.txt").write_text("#version: 0.2\nqq zz\n")
  refused("line 2 of .*'qq zz', does not join two tokens of vocab.json", file)
  (tmp_path / "merges.txt").unlink()
  refused("needs .*merges.txt", file)
  file.write_text('["a"]')
  refused("is not a vocab.json like GPT-2's", file)
  file.write_text("{")
  refused("is not a JSON file", file)
