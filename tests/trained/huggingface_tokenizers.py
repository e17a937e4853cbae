"""Small tokenizers of transformers' classes, trained on a few texts."""

import json

import tokenizers
import transformers
from tokenizers import models, pre_tokenizers, trainers

from tests.tokenizer_files import TEXTS


def _trained(model, pre_tokenizer, trainer):
  tokenizer = tokenizers.Tokenizer(model)
  tokenizer.pre_tokenizer = pre_tokenizer
  tokenizer.train_from_iterator(TEXTS, trainer)
  return json.loads(tokenizer.to_str())["model"]


def _byte_level(*special):
  level = pre_tokenizers.ByteLevel
  alphabet = level.alphabet()
  trainer = trainers.BpeTrainer(
    vocab_size=320, special_tokens=[*special], initial_alphabet=alphabet, show_progress=False
  )
  return _vocabulary(_trained(models.BPE(), level(add_prefix_space=False), trainer))


def _vocabulary(model):
  return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def _llama(**settings):
  special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
  trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
  model = models.BPE(unk_token="<unk>", byte_fallback=True)
  found = _trained(model, pre_tokenizers.Metaspace(split=False), trainer)
  return transformers.LlamaTokenizer(**_vocabulary(found), **settings)


def _t5():
  special = ["<pad>", "</s>", "<unk>"]
  trainer = trainers.UnigramTrainer(
    vocab_size=110, special_tokens=special, unk_token="<unk>", show_progress=False
  )
  model = _trained(models.Unigram(), pre_tokenizers.Metaspace(), trainer)
  sentinels = [(f"<extra_id_{k}>", 0.0) for k in reversed(range(100))]
  return transformers.T5Tokenizer(vocab=[*map(tuple, model["vocab"]), *sentinels])


def _bert():
  special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
  model = models.WordPiece(unk_token="[UNK]")
  found = _trained(model, pre_tokenizers.BertPreTokenizer(), trainer)
  return transformers.BertTokenizer(vocab=found["vocab"])


# {name: a function that makes the tokenizer}
TOKENIZERS = {
  "t5": _t5,
  "bert": _bert,
  "gpt2": lambda: transformers.GPT2Tokenizer(**_byte_level("<|endoftext|>")),
  "qwen3": lambda: transformers.Qwen2Tokenizer(**_byte_level("<|endoftext|>")),
  "bart": lambda: transformers.BartTokenizer(
    **_byte_level("<s>", "<pad>", "</s>", "<unk>", "<mask>")
  ),
  "llama": _llama,
  "llama with start": lambda: _llama(add_bos_token=True),
  "llama with start and end": lambda: _llama(add_bos_token=True, add_eos_token=True),
}
