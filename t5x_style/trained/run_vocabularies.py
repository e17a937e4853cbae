"""Finds the vocabulary of a run: in MODEL_DIR/vocabulary, as the user gives it, or as shipped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from etils import epath

from t5x_style.codecs import published_tokenizers, sentencepiece_models, vocabulary_folder
from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.codecs.sentencepiece_codec import SentencePieceCodec
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.codecs.tokenizer_json_codec import TokenizerJsonCodec
from t5x_style.errors import UserError
from t5x_style.shipped_vocabulary import VOCABULARY_FOLDER

Identity = Mapping[str, Any]


def find(folders: list[epath.Path], given: str | None, identity: Identity | None) -> TextCodec:
  """Returns the codec of the vocabulary that a model was trained with.

  Args:
    folders: where the folder `vocabulary` may be, as launch.train writes it.
    given: load's argument `vocabulary`: such a folder, a .model or a Hugging Face tokenizer.
    identity: of the vocabulary, in the checkpoint; None for a run on random tokens.

  Raises:
    UserError: there is none, or it is another vocabulary.
  """
  if identity is None:
    raise UserError("The model was trained on data without a vocabulary, so it cannot read text.")
  if given is not None:
    return _given(epath.Path(given).expanduser(), identity)
  for folder in folders:
    found = vocabulary_folder.read(folder / vocabulary_folder.FOLDER)
    if found is not None:
      return _checked(found, folder / vocabulary_folder.FOLDER, identity)
  shipped = _shipped(identity)
  if shipped is None:
    raise UserError(
      f"The model reads text with the vocabulary {identity['name']!r}, and there is no folder "
      f"{str(folders[0] / vocabulary_folder.FOLDER)!r}, which launch.train writes. Give the file: "
      "load(..., vocabulary=FILE), a SentencePiece .model, a tokenizer.json or a vocab.txt."
    )
  return shipped


def _checked(
  found: vocabulary_folder.StoredVocabulary, folder: epath.Path, identity: Identity
) -> TextCodec:
  differing = sorted(
    name
    for name in identity.keys() | found.identity.keys()
    if name != "name" and identity.get(name) != found.identity.get(name)
  )
  if differing:
    raise UserError(
      f"The vocabulary in {str(folder)!r} is not the one that the model was trained with: "
      + "; ".join(f"{k} is {found.identity.get(k)!r}, not {identity.get(k)!r}" for k in differing)
      + ". Copy the folder of the same run, or give the file: load(..., vocabulary=FILE)."
    )
  return found.codec


def _given(path: epath.Path, identity: Identity) -> TextCodec:
  if not path.exists():
    raise UserError(f"vocabulary={str(path)!r} does not exist.")
  if path.is_dir():
    if (found := vocabulary_folder.read(path)) is not None:
      return _checked(found, path, identity)
    if not any((path / name).exists() for name in published_tokenizers.NAMES):
      raise UserError(
        f"vocabulary={str(path)!r} holds neither vocabulary.json nor "
        f"{', '.join(published_tokenizers.NAMES)}; give a MODEL_DIR/vocabulary folder, a "
        "SentencePiece .model or a Hugging Face tokenizer."
      )
  if "special_tokens" in identity:  # of a Hugging Face tokenizer
    path, content = _huggingface(path, identity)
  else:
    content = path.read_bytes()
  digest = hashlib.sha256(content).hexdigest()
  if digest != identity.get("sha256"):
    wanted = f"the SHA-256 {identity['sha256']}" if "sha256" in identity else "no file at all"
    raise UserError(
      f"vocabulary={str(path)!r} is not the one that the model was trained with: that one is "
      f"{identity['name']!r} and has {wanted}; this file has {digest}."
    )
  return _of_file(content, str(path), identity)


def _huggingface(path: epath.Path, identity: Identity) -> tuple[epath.Path, bytes]:
  """Returns the file of a Hugging Face tokenizer, and its content as a tokenizer.json.

  A vocab.txt need not say whether the run made its text lower case: the identity decides.
  """
  found = published_tokenizers.read(path)
  cases = () if found.lower_case is None else (not found.lower_case,)
  others = (published_tokenizers.read(path, lower_case) for lower_case in cases)
  contents = [each.content.encode() for each in (found, *others)]
  wanted = [c for c in contents if hashlib.sha256(c).hexdigest() == identity.get("sha256")]
  return found.file, (wanted or contents)[0]


def _shipped(identity: Identity) -> TextCodec | None:
  """Returns a codec that needs no file of the user's; None if the vocabulary is no such one."""
  if identity["name"] == ByteCodec.name and "sha256" not in identity:
    specials = identity.get("specials_from_extra_ids", ())
    return ByteCodec(identity["extra_ids"] + len(specials), tuple(specials))
  for path in sorted(VOCABULARY_FOLDER.glob("*.model")):
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() == identity.get("sha256"):
      return _of_file(content, path.name, identity)
  return None


def _of_file(content: bytes, name: str, identity: Identity) -> TextCodec:
  """Makes the codec of a file from the identity of its vocabulary.

  Raises:
    UserError: the file is not of a known kind.
  """
  specials = tuple(identity.get("specials_from_extra_ids", ()))
  extra = identity["extra_ids"] + len(specials)
  if "special_tokens" in identity:  # of a tokenizer.json
    text = content.decode()
    tokens = identity["special_tokens"]
    has_own = TokenizerJsonCodec(text, name, tokens).own_sentinels
    return TokenizerJsonCodec(text, name, tokens, 0 if has_own else extra, specials)
  sentencepiece_models.check(name, content)
  has_own = sentencepiece_models.own_sentinels(content) > 0
  model = sentencepiece_models.load(content, 0 if has_own else extra)
  return SentencePieceCodec(model, name, extra, specials)
