"""The folder of a vocabulary: what a codec is made from again on any machine, without gin.

MODEL_DIR/vocabulary/vocabulary.json     the kind, its settings, and the run's identity of it
MODEL_DIR/vocabulary/vocabulary.model    or tokenizer.json; bytes have no file
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath

from t5x_style.codecs import sentencepiece_models
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.codecs.sentencepiece_codec import SentencePieceCodec
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec
from t5x_style.errors import UserError

FOLDER = "vocabulary"  # in MODEL_DIR
_DESCRIPTION = "vocabulary.json"
_KINDS = (SentencePieceCodec.kind, ByteCodec.kind, TokenizerJsonCodec.kind)


class StoredVocabulary(NamedTuple):
  """A codec, and the identity that the run has of its vocabulary."""

  codec: TextCodec
  identity: dict[str, Any]


def write(folder: epath.Path, codec: TextCodec, identity: Mapping[str, Any]) -> None:
  """Writes the folder of a vocabulary; a folder that holds the same already is left alone.

  Args:
    folder: local or in a bucket.
    identity: of the vocabulary in the identity of the run.

  Raises:
    OSError: it cannot be written.
  """
  name, content = codec.file() or (None, b"")
  described = {
    "kind": codec.kind,
    "name": codec.name,
    "file": name,
    "sha256": hashlib.sha256(content).hexdigest() if name else None,
    "settings": dict(codec.settings()),
    "identity": dict(identity),
  }
  text = json.dumps(described, indent=1) + "\n"
  description = folder / _DESCRIPTION
  stored = name is None or ((folder / name).exists() and (folder / name).read_bytes() == content)
  if stored and description.exists() and description.read_text() == text:
    return
  folder.mkdir(parents=True, exist_ok=True)
  description.unlink(missing_ok=True)  # An interrupted write leaves no description of other files.
  if name:
    (folder / name).write_bytes(content)
  description.write_text(text)


def read(folder: epath.Path) -> StoredVocabulary | None:
  """Reads the folder of a vocabulary; returns None if it holds none.

  Raises:
    UserError: it is damaged or of a later version, or the package tokenizers is not installed.
  """
  description = folder / _DESCRIPTION
  if not description.exists():
    return None
  try:
    found = json.loads(description.read_text())
    kind, settings, name = found["kind"], found["settings"], found["file"]
    content = (folder / name).read_bytes() if name else b""
    if name and hashlib.sha256(content).hexdigest() != found["sha256"]:
      raise UserError(
        f"{str(folder / name)!r} is not the file that was saved; its SHA-256 differs."
      )
    if kind not in _KINDS:
      raise UserError(
        f"{str(description)!r} is of a vocabulary of the kind {kind!r}; this version of the "
        f"package knows {', '.join(_KINDS)}."
      )
    return StoredVocabulary(make(kind, content, found["name"], settings), found["identity"])
  except (OSError, ValueError, KeyError, TypeError) as error:
    if isinstance(error, UserError):
      raise
    raise UserError(
      f"The vocabulary in {str(folder)!r} is damaged ({type(error).__name__}: {error}); copy the "
      "folder again, or give its file: load(..., vocabulary=FILE)."
    ) from error


def make(kind: str, content: bytes, name: str, settings: Mapping[str, Any]) -> TextCodec:
  """Makes a codec.

  Args:
    kind: TextCodec.kind.
    content: of its file.
    name: of the vocabulary, for messages.
    settings: as TextCodec.settings returns them.

  Raises:
    UserError: the content is not of this kind.
  """
  extra, borrowed = settings["extra_ids"], tuple(settings["specials_from_extra_ids"])
  if kind == ByteCodec.kind:
    return ByteCodec(extra, borrowed)
  if kind == TokenizerJsonCodec.kind:
    tokens = settings["special_tokens"]
    return TokenizerJsonCodec(content.decode(), name, tokens, extra, borrowed)
  model = sentencepiece_models.load(content, settings["appended"])
  return SentencePieceCodec(model, name, extra, borrowed)
