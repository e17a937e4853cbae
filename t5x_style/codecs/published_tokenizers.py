"""Reads tokenizers in the files that BERT and GPT-2 were published with, as a tokenizer.json.

vocab.txt                  WordPiece (BERT, Devlin et al. 2019): a piece on each line
vocab.json, merges.txt     BPE of bytes (GPT-2, Radford et al. 2019; RoBERTa, BART)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from t5x_style.codecs import tokenizer_json
from t5x_style.errors import UserError

NAMES = ("tokenizer.json", "vocab.txt", "vocab.json")
_MERGES = "merges.txt"
# Classes of transformers (without "Fast" at the end) that read these files as is done here.
_WORDPIECE = ("Bert", "DistilBert", "Electra", "MobileBert", "ConvBert", "SqueezeBert", "LayoutLM")
_BYTES = ("GPT2", "Roberta", "Bart", "Longformer", "LED")
_ROLES_OF_BERT = {"pad": "[PAD]", "unk": "[UNK]"} | {t: t for t in ("[CLS]", "[SEP]", "[MASK]")}
_ROLES_OF_GPT2 = {"start": "<|endoftext|>", "eos": "<|endoftext|>"}
_ROLES_OF_ROBERTA = {
  "start": "<s>",
  "eos": "</s>",
  "pad": "<pad>",
  "unk": "<unk>",
  "[CLS]": "<s>",
  "[SEP]": "</s>",
  "[MASK]": "<mask>",
}

# Vocabularies of texts in lower case have no such letter but in special tokens.
_CAPITAL = re.compile("[A-Z]")

Roles = Mapping[str, "str | int"]


class PublishedTokenizer(NamedTuple):
  """What a tokenizer's files say.

  Attributes:
    file: the file that was read.
    content: of a tokenizer.json.
    tokens: {role: token or its number}, as tokenizer_json.declared_beside returns them.
  """

  file: epath.Path
  content: str
  tokens: Roles

  @property
  def converted(self) -> bool:
    """Whether the file itself is no tokenizer.json."""
    return any(_kind(self.file))

  @property
  def lower_case(self) -> bool | None:
    """Whether a vocab.txt is of a text in lower case; None for other files."""
    normalizer = json.loads(self.content)["normalizer"] if self.converted else None
    return normalizer["lowercase"] if normalizer else None


def read(path: epath.PathLike, lower_case: bool | None = None) -> PublishedTokenizer:
  """Reads a tokenizer.json, vocab.txt or vocab.json, or the first of these in a folder.

  The content for a vocab.txt or vocab.json depends on nothing but these files, those beside them
  and `lower_case`, so it identifies the vocabulary.

  Args:
    path: local or in a bucket.
    lower_case: whether text becomes lower case before a vocab.txt is used. None: as do_lower_case
      of tokenizer_config.json beside it says; without that, if no piece has a capital letter.

  Raises:
    UserError: there is no such file, it or one beside it is not what its name says, or `lower_case`
      is given for a file that decides on it itself.
  """
  file = _find(epath.Path(path).expanduser())
  beside = tokenizer_json.declared_beside(file.parent)
  wordpiece, of_bytes = _kind(file)
  if lower_case is not None and not wordpiece:
    raise UserError(
      f"LOWER_CASE = {lower_case} is for a vocab.txt; {str(file)!r} says itself what happens to "
      "capital letters. Leave LOWER_CASE at None."
    )
  if not (wordpiece or of_bytes):
    content = file.read_bytes().decode(errors="replace")
    return PublishedTokenizer(file, content, beside)
  settings = tokenizer_json.settings_beside(file.parent)
  _check_class(file, settings, _WORDPIECE if wordpiece else _BYTES)
  if wordpiece:
    vocab = _numbered_lines(file)
    roles = _present(_ROLES_OF_BERT, vocab) | beside
    made = _of_wordpiece(file, vocab, roles, settings, lower_case)
  else:
    vocab = _numbered_tokens(file)
    of_roberta = "<s>" in vocab and "</s>" in vocab
    roles = _present(_ROLES_OF_ROBERTA if of_roberta else _ROLES_OF_GPT2, vocab) | beside
    made = _of_bytes(file, vocab, roles, settings)
  _check_added(file, vocab, settings)
  return PublishedTokenizer(file, json.dumps(made, ensure_ascii=False), roles)


def _kind(file: epath.Path) -> tuple[bool, bool]:
  """Returns whether a file is a vocab.txt and whether it is a vocab.json, by its name."""
  return file.name.endswith(".txt"), file.name.endswith(NAMES[2])


def _find(path: epath.Path) -> epath.Path:
  if path.name.endswith(_MERGES):  # The same tokenizer by its other file.
    path = path.parent / (path.name[: -len(_MERGES)] + "vocab.json")
  if path.is_dir():
    path = next((path / name for name in NAMES if (path / name).exists()), path / NAMES[0])
  if not path.exists():
    raise UserError(
      f"there is no tokenizer {str(path)!r}. Set VOCABULARY_FILE to a tokenizer.json, to BERT's "
      "vocab.txt, to GPT-2's vocab.json (with merges.txt beside it) or to the folder of one; for a "
      "SentencePiece .model include data/vocabulary.gin instead."
    )
  return path


def _numbered_lines(file: epath.Path) -> dict[str, int]:
  """Returns {piece: number} of a vocab.txt; of equal lines the last one counts."""
  try:
    lines = file.read_bytes().decode().split("\n")
  except UnicodeDecodeError as error:
    raise UserError(f"{str(file)!r} is not a vocab.txt in UTF-8 ({error}).") from error
  if not lines[-1]:
    lines.pop()
  vocab = {line.removesuffix("\r"): i for i, line in enumerate(lines)}
  if "[UNK]" not in vocab and "<unk>" not in vocab:
    raise UserError(
      f"{str(file)!r} has no line [UNK], so it is not a WordPiece vocabulary. Set VOCABULARY_FILE "
      "to the vocab.txt of a BERT, which has a piece on each line."
    )
  return vocab


def _numbered_tokens(file: epath.Path) -> dict[str, int]:
  try:
    vocab = json.loads(file.read_text())
  except ValueError as error:
    raise UserError(f"{str(file)!r} is not a JSON file ({error}).") from error
  numbered = isinstance(vocab, dict) and all(isinstance(i, int) for i in vocab.values())
  if not (numbered and vocab):
    raise UserError(
      f"{str(file)!r} is not a vocab.json like GPT-2's, which gives each token its number: "
      '{"!": 0, ...}.'
    )
  return vocab


def _of_wordpiece(
  file: epath.Path,
  vocab: Mapping[str, int],
  roles: Roles,
  settings: Mapping[str, Any],
  lower_case: bool | None,
) -> dict[str, Any]:
  """Returns the tokenizer.json of a vocab.txt, as transformers' BertTokenizer would save it."""
  unknown = roles.get("unk", "[UNK]")
  if unknown not in vocab:
    raise UserError(
      f"{str(file)!r} has no line {unknown!r}, the unknown token that tokenizer_config.json names."
    )
  if lower_case is None:
    lower_case = settings.get("do_lower_case")
  if lower_case is None:
    ordinary = vocab.keys() - set(roles.values())
    lower_case = not any(_CAPITAL.search(piece) for piece in ordinary)
  return _tokenizer(
    {
      "type": "WordPiece",
      "unk_token": unknown,
      "continuing_subword_prefix": "##",
      "max_input_chars_per_word": 100,
      "vocab": dict(vocab),
    },
    _special(vocab, roles),
    normalizer={
      "type": "BertNormalizer",
      "clean_text": True,
      "handle_chinese_chars": settings.get("tokenize_chinese_chars", True),
      "strip_accents": settings.get("strip_accents"),
      "lowercase": bool(lower_case),
    },
    pre_tokenizer={"type": "BertPreTokenizer"},
    decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    post_processor=_around(vocab, roles),
  )


def _of_bytes(
  file: epath.Path, vocab: Mapping[str, int], roles: Roles, settings: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the tokenizer.json of a vocab.json, as transformers' GPT2Tokenizer would save it."""
  bytes_ = {
    "type": "ByteLevel",
    "add_prefix_space": bool(settings.get("add_prefix_space", False)),
    "trim_offsets": True,
    "use_regex": True,
  }
  return _tokenizer(
    {
      "type": "BPE",
      "dropout": None,
      "unk_token": None,
      "continuing_subword_prefix": "",
      "end_of_word_suffix": "",
      "fuse_unk": False,
      "byte_fallback": False,
      "ignore_merges": False,
      "vocab": dict(vocab),
      "merges": _merges(file, vocab),
    },
    _special(vocab, roles),
    normalizer=None,
    pre_tokenizer=bytes_,
    decoder={**bytes_, "add_prefix_space": True},
    post_processor=_around(vocab, roles),
  )


def _merges(vocab_file: epath.Path, vocab: Mapping[str, int]) -> list[list[str]]:
  """Returns the pairs of merges.txt, which is beside vocab.json and named alike."""
  file = vocab_file.parent / (vocab_file.name.removesuffix(NAMES[2]) + _MERGES)
  if not file.exists():
    raise UserError(f"{str(vocab_file)!r} needs {str(file)!r}, which says how tokens are joined.")
  merges = []
  for number, line in enumerate(file.read_bytes().decode(errors="replace").split("\n"), 1):
    line = line.removesuffix("\r")
    if not line or line.startswith("#version"):
      continue
    pair = line.split(" ")
    if len(pair) != 2 or not {*pair, "".join(pair)} <= vocab.keys():
      raise UserError(
        f"line {number} of {str(file)!r}, {line!r}, does not join two tokens of {vocab_file.name} "
        "to a third one. Take both files from the same folder."
      )
    merges.append(pair)
  return merges


def _tokenizer(
  model: Mapping[str, Any], special: Sequence[Mapping[str, Any]], **steps: Any
) -> dict[str, Any]:
  kept = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [*special]}
  return {**kept, **steps, "model": model}


def _special(vocab: Mapping[str, int], roles: Roles) -> list[dict[str, Any]]:
  """Declares the tokens of roles special, so that they occur in no text."""
  tokens = {token for token in roles.values() if isinstance(token, str) and token in vocab}
  how = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
  return [
    {"id": vocab[token], "content": token, **how, "special": True}
    for token in sorted(tokens, key=lambda token: vocab[token])
  ]


def _around(vocab: Mapping[str, int], roles: Roles) -> dict[str, Any] | None:
  """Returns what is put around a text and a pair of texts: [CLS] A [SEP] B [SEP]."""
  first, last = roles.get("[CLS]"), roles.get("[SEP]")
  if not (isinstance(first, str) and isinstance(last, str)) or not {first, last} <= vocab.keys():
    return None

  def piece(token, kind=0):
    return {"SpecialToken": {"id": token, "type_id": kind}}

  def text(name, kind=0):
    return {"Sequence": {"id": name, "type_id": kind}}

  single = [piece(first), text("A"), piece(last)]
  between = [piece(last)] if first == "<s>" else []  # RoBERTa has two, and no types.
  second = 0 if between else 1
  return {
    "type": "TemplateProcessing",
    "single": single,
    "pair": [*single, *between, text("B", second), piece(last, second)],
    "special_tokens": {
      token: {"id": token, "ids": [vocab[token]], "tokens": [token]} for token in (first, last)
    },
  }


def _present(roles: Mapping[str, str], vocab: Mapping[str, int]) -> dict[str, str | int]:
  return {role: token for role, token in roles.items() if token in vocab}


def _check_class(file: epath.Path, settings: Mapping[str, Any], known: Sequence[str]) -> None:
  """Raises UserError if the files beside name a class of transformers that reads it differently."""
  name = settings.get("tokenizer_class")
  if name and name.removesuffix("Fast") not in {f"{family}Tokenizer" for family in known}:
    raise UserError(
      f"{str(file)!r} is for a {name}, as tokenizer_config.json says, and that reads text in its "
      f"own way. {_SAVE_AGAIN}"
    )


def _check_added(file: epath.Path, vocab: Mapping[str, int], settings: Mapping[str, Any]) -> None:
  """Raises UserError if the files beside add tokens to the vocabulary."""
  added = {token["content"] for token in settings.get("added_tokens_decoder", {}).values()}
  if (beside := file.parent / "added_tokens.json").exists():
    added |= json.loads(beside.read_text()).keys()
  if absent := sorted(added - vocab.keys()):
    raise UserError(
      f"tokenizer_config.json or added_tokens.json beside {str(file)!r} add tokens that it does "
      f"not have: {', '.join(map(repr, absent[:5]))}. {_SAVE_AGAIN}"
    )


_SAVE_AGAIN = (
  "Save the tokenizer as a tokenizer.json with transformers: AutoTokenizer.from_pretrained(FOLDER)"
  ".save_pretrained(FOLDER)."
)
