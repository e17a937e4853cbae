"""Opens tokenizer.json files, checks that they can encode every text, finds special tokens."""

from __future__ import annotations

import json
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etils import epath

from t5x_style.errors import UserError

# {name in the objectives here: name in tokenizer_config.json}.
_DECLARED = {"[CLS]": "cls_token", "[SEP]": "sep_token", "[MASK]": "mask_token"}
_ROLES = {"pad": "pad_token", "eos": "eos_token", "unk": "unk_token", "start": "bos_token"}
# {role: its setting in tokenizer_config.json}
ROLE_SETTINGS = {**_ROLES, **_DECLARED}
# The usual tokens of a role, for a tokenizer.json without files beside it.
_USUAL = {
  "pad": ("[PAD]", "<pad>"),
  "eos": ("</s>", "<|endoftext|>", "<|end_of_text|>", "[SEP]"),
  "[CLS]": ("[CLS]",),
  "[SEP]": ("[SEP]",),
  "[MASK]": ("[MASK]", "<mask>"),
}
_SENTINEL = re.compile("\u2581?<extra_id_(\\d+)>")
# The setting of a model that names its unknown token; "unk_token" if it is not listed.
_UNKNOWN_SETTING = {"Unigram": '"unk_id"'}
# A word longer than any model's limit, which WordPiece replaces by the unknown token.
_LONG_WORD = "a" * 1000


def load(content: str, name: str) -> tuple[Any, dict[str, Any]]:
  """Returns a tokenizers.Tokenizer and the settings of the file.

  The tokenizer does not truncate or pad, and finds no special tokens in text.

  Args:
    content: of the file.
    name: of the file, for messages.

  Raises:
    UserError: the package tokenizers is not installed, the content is not a tokenizer, or it cannot
      encode every text.
  """
  try:
    import tokenizers
  except ModuleNotFoundError as error:
    raise UserError(
      f"the tokenizer {name} needs the package tokenizers: pip install 't5x_style[interop]'."
    ) from error
  try:
    tokenizer = tokenizers.Tokenizer.from_str(content)
  except Exception as error:  # the library raises plain Exceptions
    raise UserError(
      f"{name} is not a tokenizer.json of Hugging Face ({error}); set VOCABULARY_FILE to one, or "
      "include data/vocabulary.gin for a SentencePiece .model."
    ) from error
  tokenizer.no_truncation()
  tokenizer.no_padding()
  tokenizer.encode_special_tokens = True  # "[MASK]" in a text is six letters.
  settings = json.loads(content)
  _check_every_text(tokenizer, name, settings["model"]["type"])
  return tokenizer, settings


def _check_every_text(tokenizer: Any, name: str, kind: str) -> None:
  """Raises UserError if the tokenizer fails at some text.

  A tokenizer without an unknown token does; it would end a run at the first unknown character.
  """
  texts = ["", *_characters(), _LONG_WORD]
  texts += [f"a {text} b" for text in texts]
  try:
    tokenizer.encode_batch_fast(texts, add_special_tokens=False)
  except Exception as error:  # the library raises plain Exceptions
    setting = _UNKNOWN_SETTING.get(kind, '"unk_token"')
    raise UserError(
      f"the tokenizer {name} cannot encode every text: at {_first_failing(tokenizer, texts)} it "
      f'fails with "{error}". Fix {setting} under "model" in the file: it has to name a token that '
      "the model has, for what it does not know."
    ) from error


def _first_failing(tokenizer: Any, texts: Iterable[str]) -> str:
  """Shows the first text that the tokenizer cannot encode."""
  for text in texts:
    try:
      tokenizer.encode(text, add_special_tokens=False)
    except Exception:
      return repr(text) if len(text) == 1 else f"{text[:8]!r}..."
  return "some text"


def _characters() -> Iterator[str]:
  """Yields characters of nearly all scripts.

  A tokenizer that encodes all of these is assumed to encode any text.
  """
  yield from map(chr, range(0x20, 0x7F))
  for code in range(0xA1, 0x20000, 37):
    if unicodedata.category(chr(code))[0] in "LNPS":
      yield chr(code)


def keep_out_of_text(tokenizer: Any, special: Iterable[int]) -> None:
  """Declares the added tokens among `special` special, so that they occur in no text."""
  added = tokenizer.get_added_tokens_decoder()
  changed = [added[i] for i in special if i in added and not added[i].special]
  for token in changed:
    token.special = True
  tokenizer.add_special_tokens(changed)


def without_literals(tokenizer: Any, tokens: Iterable[str]) -> Any:
  """Returns the same tokenizer for texts in which special tokens are written out.

  A model that has the token "</s>" would use it for these letters in a text. This one cuts such
  letters after the first one, so that they are encoded as ordinary letters.
  """
  import tokenizers
  from tokenizers import pre_tokenizers

  other = tokenizers.Tokenizer.from_str(tokenizer.to_str())
  other.encode_special_tokens = True
  cuts = [f"{re.escape(t[0])}(?={re.escape(t[1:])})" for t in tokens if len(t) > 1]
  if cuts:
    split = pre_tokenizers.Split(tokenizers.Regex("|".join(cuts)), "isolated")
    before = [other.pre_tokenizer] if other.pre_tokenizer else []
    other.pre_tokenizer = pre_tokenizers.Sequence([*before, split])
  return other


class SpecialTokens:
  """The special tokens of a tokenizer and their roles.

  Attributes:
    special: {number: token} of all special tokens.
  """

  def __init__(
    self,
    tokenizer: Any,
    settings: Mapping[str, Any],
    tokens: Mapping[str, str | int],
    name: str,
  ):
    self._tokenizer, self._tokens, self._name = tokenizer, tokens, name
    self._model = settings["model"]
    self._size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    added = tokenizer.get_added_tokens_decoder()
    _warn_of_other_numbers(name, settings["added_tokens"], tokenizer)
    self.special = {i: token.content for i, token in added.items() if token.special}
    if (unknown := self.unknown()) is not None:
      self.special.setdefault(unknown, tokenizer.id_to_token(unknown))
    for role in ("pad", "eos", "start"):
      if (i := self.role(role)) is not None:
        self.special.setdefault(i, tokenizer.id_to_token(i))

  def role(self, role: str) -> int | None:
    """Returns the number of the token for a role ("eos") or a name in the objectives ("[MASK]")."""
    if role in self._tokens:
      return self._known(role, self._tokens[role])
    if role == "eos" and "[SEP]" in self._tokens:
      return self._known(role, self._tokens["[SEP]"])
    by_content = {token: i for i, token in self.special.items()} if self.special else {}
    for token in _USUAL.get(role, ()):
      if token in by_content:
        return by_content[token]
    if role == "eos":
      raise UserError(
        f"nothing says which token of {self._name} ends a document: put tokenizer_config.json "
        "beside it, or set SPECIAL_TOKENS = {'eos': '...'}."
      )
    return None

  def unknown(self) -> int | None:
    """Returns the number of the unknown token, or None."""
    if "unk" in self._tokens:
      return self._known("unk", self._tokens["unk"])
    if self._model.get("unk_token"):
      return self._known("unk", self._model["unk_token"])
    return self._model.get("unk_id")

  def named(self) -> dict[str, int]:
    """Returns {name: number} of all special tokens that objectives may use."""
    named = {token: i for i, token in self.special.items()}
    for name in (*_DECLARED, *(k for k in self._tokens if k.startswith("["))):
      if (i := self.role(name)) is not None:
        named[name] = i
        self.special.setdefault(i, self._tokenizer.id_to_token(i))
    return named

  def sentinels(self) -> list[int]:
    """Returns the numbers of <extra_id_0>, <extra_id_1> ..."""
    found = {}
    for token, i in self._tokenizer.get_vocab(with_added_tokens=True).items():
      if match := _SENTINEL.fullmatch(token):
        if int(match[1]) not in found or not token.startswith("\u2581"):
          found[int(match[1])] = i
        self.special.setdefault(i, token)
    return [found[k] for k in range(len(found)) if k in found]

  def _known(self, role: str, token: str | int) -> int:
    """Returns the number of a token; raises UserError if the tokenizer lacks it."""
    if isinstance(token, int):
      i = token if 0 <= token < self._size else None
    else:
      i = self._tokenizer.token_to_id(token)
    if i is None:
      raise UserError(
        f"{self._name} has no token {token!r}, which is to be its {role!r}; set SPECIAL_TOKENS = "
        f"{{{role!r}: '...'}} to one it has, or fix tokenizer_config.json."
      )
    return i


def _warn_of_other_numbers(name: str, declared: Iterable[Any], tokenizer: Any) -> None:
  """Warns if the file gives added tokens other numbers than the library does.

  The library, and so transformers, numbers added tokens from the model's last number on.
  """
  others = [
    f"{token['content']!r} is {tokenizer.token_to_id(token['content'])}, not {token['id']}"
    for token in declared
    if tokenizer.token_to_id(token["content"]) != token["id"]
  ]
  if others:
    warnings.warn(
      f"the added tokens of {name} have other numbers than it says, as added tokens follow the "
      f"model's without a gap, in transformers too: {', '.join(others[:4])}"
      f"{', ...' if len(others) > 4 else ''}.",
      stacklevel=2,
    )


def settings_beside(folder: epath.PathLike) -> dict[str, Any]:
  """Returns the settings in the files that transformers writes beside a tokenizer.

  Raises:
    UserError: one of the files is not JSON.
  """
  settings: dict[str, Any] = {}
  for name in ("special_tokens_map.json", "tokenizer_config.json", "config.json"):
    file = epath.Path(folder) / name
    if file.exists():
      try:
        settings |= json.loads(file.read_text())
      except (ValueError, TypeError) as error:
        raise UserError(f"{file!s} is not a JSON file of settings ({error}).") from error
  return settings


def declared_beside(folder: epath.PathLike) -> dict[str, str | int]:
  """Returns {role: token or its number} as declared by the files beside a tokenizer.json.

  Raises:
    UserError: one of the files is not JSON, or a token in it is not a text.
  """
  settings = settings_beside(folder)
  tokens: dict[str, str | int] = {}
  for role, key in ROLE_SETTINGS.items():
    token = settings.get(key)
    token = token.get("content") if isinstance(token, dict) else token
    if token is not None and not isinstance(token, str):
      raise UserError(f"{key} = {token!r} of the files in {folder!s} has to be a text.")
    if token:
      tokens[role] = token
  start = settings.get("decoder_start_token_id")
  if isinstance(start, int) and not isinstance(start, bool):
    tokens["start"] = start
  return tokens
