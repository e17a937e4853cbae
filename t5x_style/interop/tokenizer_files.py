"""The tokenizer beside a model: files copied from a folder, or made from a vocabulary of ours."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t5x_style.errors import UserError

# What tokenizers of transformers are made of; the model's own settings are not among them.
NAMES = (
  ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
  + ("vocab.json", "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")
  + ("tokenizer.model", "chat_template.jinja", "chat_template.json", "generation_config.json")
)
_SAMPLES = (
  "def f(x):\n    return x  # a comment\n",
  "The  quick brown fox, naïve café; 12345 €.",
  "\tif a<b and c>=d:\r\n",
  "日本語とемодзи 🙂 together",
)


def copy(source: Path, target: Path) -> list[str]:
  """Copies the tokenizer's files of a folder; their names."""
  found = [name for name in NAMES if (source / name).is_file()]
  for name in found:
    shutil.copyfile(source / name, target / name)
  return found


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """A vocabulary of t5x_style.data.vocabularies, described without loading TensorFlow.

  Attributes:
    model: content of the SentencePiece model; None for bytes.
    extra_ids: ids behind those of the model, the special tokens among them and the sentinels.
    specials: special tokens at the low end of the extra ids.
  """

  model: bytes | None
  extra_ids: int
  specials: tuple[str, ...] = ()


def write(target: Path, vocabulary: Vocabulary, architecture: str) -> dict[str, int]:
  """Writes tokenizer.json and tokenizer_config.json, with which AutoTokenizer gives the same ids.

  Where two readings of a text score the same, as of fifty dashes, the two libraries may choose
  differently; the text that comes back is the same.

  Special tokens that are written out in a text, such as [MASK], become the tokens, as is usual for
  tokenizers of transformers. A decoder-only model is trained with id 0 in front of a text, so its
  tokenizer puts it there; an encoder's puts [CLS] and [SEP] around it, another's EOS behind it.

  Returns:
    {"eos_token_id": 1, ...} for the model's config.json.

  Raises:
    UserError: the vocabulary is of a kind that a tokenizer.json cannot repeat, or the package
      tokenizers is not installed.
  """
  tokenizer, specials = _tokenizer(vocabulary)
  ids = {token: tokenizer.token_to_id(token) for token in specials}
  names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
  if architecture == "decoder_only":
    names["bos_token"] = "<pad>"
  for name in ("cls", "sep", "mask"):
    if f"[{name.upper()}]" in ids:
      names[f"{name}_token"] = f"[{name.upper()}]"
  tokenizer.post_processor = _template(architecture, ids)
  tokenizer.save(str(target / "tokenizer.json"))
  settings = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    **names,
    "additional_special_tokens": [t for t in specials if t not in names.values()],
    "clean_up_tokenization_spaces": False,
  }
  (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
  if vocabulary.model is not None:
    (target / "spiece.model").write_bytes(vocabulary.model)
    _check_same(tokenizer, vocabulary.model)
  # The model has a word of its own in what padding is, and none in what is unknown.
  del names["pad_token"], names["unk_token"]
  return {f"{name}_id": tokenizer.token_to_id(token) for name, token in names.items()}


def _tokenizer(vocabulary: Vocabulary) -> tuple[Any, list[str]]:
  """The tokenizer without post-processor, and its special tokens."""
  if vocabulary.model is None:
    tokenizer, specials, size = _bytes(), ["<pad>", "</s>", "<unk>"], 259
  else:
    tokenizer, specials, size = _sentencepiece(vocabulary.model)
  sentinels = vocabulary.extra_ids - len(vocabulary.specials)
  extra = [*vocabulary.specials, *(f"<extra_id_{k}>" for k in reversed(range(sentinels)))]
  from tokenizers import AddedToken

  # In the order of their ids, which are those that follow.
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


def _sentencepiece(content: bytes) -> tuple[Any, list[str], int]:
  from sentencepiece import sentencepiece_model_pb2
  from tokenizers import AddedToken, Tokenizer, decoders, models

  model = sentencepiece_model_pb2.ModelProto.FromString(content)
  if model.trainer_spec.model_type != model.trainer_spec.UNIGRAM:
    kind = model.trainer_spec.ModelType.Name(model.trainer_spec.model_type)
    raise UserError(
      f"the SentencePiece model is of the kind {kind}; a tokenizer.json is made of UNIGRAM only"
    )
  types = model.SentencePiece
  floor = min(p.score for p in model.pieces if p.type == types.NORMAL) - 1000.0
  # The names of bytes, <0x41>, are no pieces of a text that mentions them: they are made unlikely.
  vocab = [(p.piece, floor if p.type == types.BYTE else p.score) for p in model.pieces]
  tokenizer = Tokenizer(
    models.Unigram(vocab, unk_id=2, byte_fallback=any(p.type == types.BYTE for p in model.pieces))
  )
  spec = model.normalizer_spec
  tokenizer.normalizer = _normalizer(spec)
  steps: list[Any] = [decoders.ByteFallback(), decoders.Fuse()]
  if spec.escape_whitespaces:
    steps.insert(0, decoders.Replace("\u2581", " "))
    if spec.add_dummy_prefix:
      steps.append(decoders.Strip(" ", left=1))
  tokenizer.decoder = decoders.Sequence(steps)
  own = [p.piece for p in model.pieces if p.type == types.USER_DEFINED]
  tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in own])
  special = [p.piece for p in model.pieces if p.type in (types.CONTROL, types.UNKNOWN)]
  return tokenizer, special, len(model.pieces)


def _normalizer(spec: Any) -> Any:
  from tokenizers import Regex, normalizers

  steps: list[Any] = []
  if spec.precompiled_charsmap and spec.name != "identity":
    steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
  if spec.remove_extra_whitespaces:
    steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
  if spec.escape_whitespaces:
    if spec.add_dummy_prefix:
      steps.append(normalizers.Prepend("\u2581"))
    steps.append(normalizers.Replace(" ", "\u2581"))
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


def _check_same(tokenizer: Any, content: bytes, samples: Sequence[str] = _SAMPLES) -> None:
  import sentencepiece

  processor = sentencepiece.SentencePieceProcessor(model_proto=content)
  for text in samples:
    theirs = tokenizer.encode(text, add_special_tokens=False).ids
    if theirs != processor.encode(text):
      raise UserError(
        f"the tokenizer.json made of the SentencePiece model reads {text!r} otherwise"
      )
