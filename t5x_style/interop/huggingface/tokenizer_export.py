"""The tokenizer of an exported model: copied from a folder, or made from a run's vocabulary."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_style.codecs import tokenizer_json
from t5x_style.codecs.published_tokenizers import PublishedTokenizer
from t5x_style.errors import UserError
from t5x_style.sentinels import SPACE, own_sentinels

# The files of a transformers tokenizer, and how to generate with the model.
NAMES = (
  ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
  + ("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
  + ("tokenizer.model", "chat_template.jinja", "chat_template.json", "generation_config.json")
)
_T5_SENTINELS = 100
# Pieces that are special tokens, even if the author of a model defined them as symbols.
_SPECIAL = ("[CLS]", "[SEP]", "[MASK]")
_PRIVATE_USE = 0x10F000  # the first of the characters that stand for pieces and are in no text
_SAMPLES = (
  "def f(x):\n    return x  # a comment\n",
  "The  quick brown fox, naïve café; 12345 €.",
  "\tif a<b and c>=d:\r\n",
  "日本語とемодзи 🙂 together",
)


def copy(source: Path, target: Path) -> list[str]:
  """Copies the tokenizer's files of a folder; returns their names."""
  found = [name for name in NAMES if (source / name).is_file()]
  for name in found:
    shutil.copyfile(source / name, target / name)
  return found


def write_published(tokenizer: PublishedTokenizer, target: Path) -> list[str]:
  """Writes the tokenizer.json of a vocab.txt or vocab.json, and what it is called in transformers.

  Without it BertTokenizer makes text lower case unless tokenizer_config.json says otherwise.

  Args:
    target: the folder of the model; a tokenizer_config.json in it is completed.

  Returns:
    The names of the files.
  """
  file = target / "tokenizer_config.json"
  settings = json.loads(file.read_text()) if file.exists() else {}
  for role, token in tokenizer.tokens.items():
    if isinstance(token, str):
      settings.setdefault(tokenizer_json.ROLE_SETTINGS.get(role, role), token)
  if tokenizer.lower_case is not None:
    settings["do_lower_case"] = tokenizer.lower_case
  file.write_text(json.dumps(settings, indent=2) + "\n")
  (target / "tokenizer.json").write_text(tokenizer.content)
  return ["tokenizer.json", file.name]


@dataclasses.dataclass(frozen=True)
class RunVocabulary:
  """A vocabulary of t5x_style.data.tokenizers.vocabularies, described without TensorFlow.

  Attributes:
    model: content of the SentencePiece model; None for bytes.
    extra_ids: the number of ids after those of the model, for special tokens and sentinels.
    specials: special tokens that have the first of the extra ids.
  """

  model: bytes | None
  extra_ids: int
  specials: tuple[str, ...] = ()


def write(target: Path, vocabulary: RunVocabulary, architecture: str) -> dict[str, int]:
  """Writes tokenizer.json and tokenizer_config.json, with which AutoTokenizer gives the same ids.

  If two ways to split a text have the same score, as for fifty dashes, the two libraries may choose
  differently; both decode to the same text.

  Special tokens that are written out in a text, such as [MASK], become the tokens, as is usual for
  tokenizers of transformers. The tokenizer of a decoder-only model adds id 0 before a text, as in
  training; that of an encoder adds [CLS] and [SEP] around it, any other EOS after it.

  Args:
    target: the folder of the model.
    architecture: of the model, as TransformerConfig.architecture.

  Returns:
    {"eos_token_id": 1, ...} for the model's config.json.

  Raises:
    UserError: a tokenizer.json cannot do the same as the vocabulary, or the package tokenizers is
      not installed.
  """
  if importlib.util.find_spec("tokenizers") is None:
    raise UserError("the package tokenizers is not installed: pip install 't5x_style[interop]'")
  tokenizer, specials = _tokenizer(vocabulary)
  if vocabulary.model is not None:
    _check_same(tokenizer, vocabulary.model, specials)
  roles = _roles(architecture, specials)
  ids = {token: tokenizer.token_to_id(token) for token in specials}
  tokenizer.post_processor = _template(architecture, ids)
  tokenizer.save(str(target / "tokenizer.json"))
  tokenizer_config = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    **roles,
    "additional_special_tokens": [t for t in specials if t not in roles.values()],
    "clean_up_tokenization_spaces": False,
  }
  (target / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2) + "\n")
  if vocabulary.model is not None:
    (target / "spiece.model").write_bytes(vocabulary.model)
  # The model's own config.json says which id is padding, and needs no id for unknown text.
  del roles["pad_token"], roles["unk_token"]
  return {f"{role}_id": tokenizer.token_to_id(token) for role, token in roles.items()}


def _roles(architecture: str, specials: Sequence[str]) -> dict[str, str]:
  """Returns {role in transformers: special token}, such as {"pad_token": "<pad>", ...}."""
  roles = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
  if architecture == "decoder_only":
    roles["bos_token"] = "<pad>"
  for name in ("cls", "sep", "mask"):
    if f"[{name.upper()}]" in specials:
      roles[f"{name}_token"] = f"[{name.upper()}]"
  return roles


def appended_sentinels(folder: Path) -> int:
  """Returns how many sentinels transformers appends to the spiece.model of a T5 tokenizer.

  It appends none if the model ends with its own, as mT5's does, and 100 if no file says how many.
  """
  model = _parse((folder / "spiece.model").read_bytes())
  if own_sentinels(piece.piece for piece in reversed(model.pieces)):
    return 0
  try:
    tokenizer_config = json.loads((folder / "tokenizer_config.json").read_text())
    count = tokenizer_config.get("extra_ids", _T5_SENTINELS)
  except (OSError, ValueError, AttributeError):
    count = _T5_SENTINELS
  return count if isinstance(count, int) else _T5_SENTINELS


def _tokenizer(vocabulary: RunVocabulary) -> tuple[Any, list[str]]:
  """Returns the tokenizer without post-processor, and its special tokens."""
  if vocabulary.model is None:
    tokenizer, specials, size = _bytes(), ["<pad>", "</s>", "<unk>"], 259
  else:
    tokenizer, specials, size = _sentencepiece(vocabulary.model)
  sentinels = vocabulary.extra_ids - len(vocabulary.specials)
  if sentinels < 0:
    raise UserError(
      f"{', '.join(vocabulary.specials)} would replace sentinels of the SentencePiece model"
    )
  extra = [*vocabulary.specials, *(f"<extra_id_{k}>" for k in reversed(range(sentinels)))]
  from tokenizers import AddedToken

  # In the order of their ids, which follow those of the model.
  tokenizer.add_special_tokens(
    [AddedToken(token, special=True, normalized=False) for token in [*specials, *extra]]
  )
  assert tokenizer.get_vocab_size() == size + len(extra)
  return tokenizer, [*specials, *extra]


def _bytes() -> Any:
  from tokenizers import Tokenizer, decoders, models

  pieces = ["<pad>", "</s>", "<unk>", *(f"<0x{i:02X}>" for i in range(256))]
  vocab = {piece: i for i, piece in enumerate(pieces)}
  tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
  tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
  return tokenizer


def _parse(content: bytes) -> Any:
  from sentencepiece import sentencepiece_model_pb2

  return sentencepiece_model_pb2.ModelProto.FromString(content)


def _sentencepiece(content: bytes) -> tuple[Any, list[str], int]:
  from tokenizers import Tokenizer, decoders, models

  model = _parse(content)
  if model.trainer_spec.model_type != model.trainer_spec.UNIGRAM:
    kind = model.trainer_spec.ModelType.Name(model.trainer_spec.model_type)
    raise UserError(
      f"the SentencePiece model is of the kind {kind}; a tokenizer.json is made of UNIGRAM only"
    )
  types, spec = model.SentencePiece, model.normalizer_spec
  kept = _kept_by_normalization(model)
  vocab = [(kept.get(piece, piece), score) for piece, score in _scores(model)]
  fallback = any(p.type == types.BYTE for p in model.pieces)
  tokenizer = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=fallback))
  tokenizer.normalizer = _normalizer(spec, kept)
  steps: list[Any] = [decoders.ByteFallback(), decoders.Fuse()]
  if spec.escape_whitespaces:
    steps.insert(0, decoders.Replace(SPACE, " "))
    if spec.add_dummy_prefix:
      steps.append(decoders.Strip(" ", left=1))
  steps += [decoders.Replace(stand_in, piece) for piece, stand_in in kept.items()]
  tokenizer.decoder = decoders.Sequence(steps)
  special = [
    p.piece
    for p in model.pieces
    if p.type in (types.CONTROL, types.UNKNOWN)
    or (p.type == types.USER_DEFINED and p.piece in _SPECIAL)
  ]
  return tokenizer, special, len(model.pieces)


def _scores(model: Any) -> list[tuple[str, float]]:
  """Returns the pieces with the scores by which SentencePiece chooses among them.

  A user-defined piece has the best score of all pieces for each of its characters (`PopulateNodes`
  in SentencePiece's unigram_model.cc). Special pieces and the names of bytes, such as <0x41>, are
  never pieces of a text that mentions them: they get a score that is never chosen.
  """
  types = model.SentencePiece
  normal = [p.score for p in model.pieces if p.type == types.NORMAL] or [0.0]

  def score(piece):
    if piece.type == types.USER_DEFINED:
      return len(piece.piece) * max(normal) - 0.1
    return piece.score if piece.type == types.NORMAL else min(normal) - 1000.0

  return [(piece.piece, score(piece)) for piece in model.pieces]


def _kept_by_normalization(model: Any) -> dict[str, str]:
  """Returns {piece: stand-in} of the user-defined pieces that normalisation would change.

  SentencePiece does not normalise these pieces in a text. Here each is replaced by a character that
  is in no text before normalisation: otherwise a line end, for example, would become a space.
  """
  from tokenizers import normalizers

  spec, types = model.normalizer_spec, model.SentencePiece
  if not spec.precompiled_charsmap or spec.name == "identity":
    return {}
  change = normalizers.Precompiled(spec.precompiled_charsmap).normalize_str
  own = [p.piece for p in model.pieces if p.type == types.USER_DEFINED and p.piece not in _SPECIAL]
  changed = [piece for piece in own if SPACE not in piece and change(piece) != piece]
  changed.sort(key=len, reverse=True)  # The longest are to be found first.
  return {piece: chr(_PRIVATE_USE + i) for i, piece in enumerate(changed)}


def _normalizer(spec: Any, kept: Mapping[str, str]) -> Any:
  from tokenizers import Regex, normalizers

  steps: list[Any] = [normalizers.Replace(piece, stand_in) for piece, stand_in in kept.items()]
  if spec.precompiled_charsmap and spec.name != "identity":
    steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
  if spec.remove_extra_whitespaces:
    # Spaces only: normalizers.Strip takes line ends too.
    steps += [
      normalizers.Replace(Regex(r"\A +| +\z"), ""),
      normalizers.Replace(Regex(" {2,}"), " "),
    ]
  if spec.escape_whitespaces:
    if spec.add_dummy_prefix:
      steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
  return normalizers.Sequence(steps)


def _template(architecture: str, ids: dict[str, int]) -> Any:
  from tokenizers import processors

  if architecture == "decoder_only":
    one, two = ["<pad>", "$A"], ["<pad>", "$A", "$B"]
  elif architecture == "encoder_only" and {"[CLS]", "[SEP]"} <= ids.keys():
    one, two = ["[CLS]", "$A", "[SEP]"], ["[CLS]", "$A", "[SEP]", "$B:1", "[SEP]:1"]
  else:
    one, two = ["$A", "</s>"], ["$A", "</s>", "$B", "</s>"]
  used = [token.removesuffix(":1") for token in two if not token.startswith("$")]
  return processors.TemplateProcessing(
    single=one, pair=two, special_tokens=[(token, ids[token]) for token in dict.fromkeys(used)]
  )


def _check_same(tokenizer: Any, content: bytes, specials: Sequence[str]) -> None:
  """Raises UserError if the tokenizer reads a sample differently from SentencePiece."""
  import sentencepiece

  processor = sentencepiece.SentencePieceProcessor(model_proto=content)
  for text in (*_SAMPLES, *_samples_of_symbols(content, specials)):
    found = tokenizer.encode(text, add_special_tokens=False).ids
    if found != processor.encode(text):
      raise UserError(
        f"the tokenizer.json made of the SentencePiece model reads {text!r} differently"
      )


def _samples_of_symbols(content: bytes, specials: Sequence[str]) -> Iterator[str]:
  """Yields texts with each user-defined piece: by itself, as a word, and in a word."""
  model = _parse(content)
  for piece in model.pieces:
    if piece.type == piece.USER_DEFINED and piece.piece not in specials:
      text = piece.piece.replace(SPACE, " ")
      yield from (text, f"a {text} b", f"The{text}end {text}{text}")
