"""Small tokenizer.json files of each kind, trained on a few texts; needs the package tokenizers."""

import json

import tokenizers

TEXTS = [
  "The quick brown fox jumps over the lazy dog!\n\tReturn 12345 naïve cafés, 漢字 and 🙂.",
  "def f(x):\n  return [MASK] + '</s> <mask> <s> <|endoftext|> <pad> [SEP]'\n",
  "! !! a!",
  "",
] * 10


def wordpiece(folder):
  """Writes a WordPiece tokenizer like BERT's."""
  t = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
  t.normalizer = tokenizers.normalizers.BertNormalizer()
  t.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
  t.decoder = tokenizers.decoders.WordPiece()
  special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  trainer = tokenizers.trainers.WordPieceTrainer(
    vocab_size=150, special_tokens=special, show_progress=False
  )
  t.train_from_iterator(TEXTS, trainer)
  t.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
  t.enable_truncation(8)
  return save(folder, t, unk="[UNK]", pad="[PAD]", cls="[CLS]", sep="[SEP]", mask="[MASK]")


def byte_level(folder, special=("<|endoftext|>",), **tokens):
  """Writes a BPE tokenizer of bytes like GPT-2's, or RoBERTa's with its special tokens."""
  t = tokenizers.Tokenizer(tokenizers.models.BPE())
  t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  t.decoder = tokenizers.decoders.ByteLevel()
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=320,
    special_tokens=[s for s in special if s != "<|endoftext|>"],
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  t.train_from_iterator(TEXTS, trainer)
  if "<|endoftext|>" in special:  # the last id, as in GPT-2, where 0 is "!"
    t.add_special_tokens(["<|endoftext|>"])
  return save(folder, t, **(tokens or dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")))


def roberta(folder):
  special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
  names = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "unk": "<unk>"}
  return byte_level(folder, special, pad="<pad>", mask="<mask>", **names)


def bart(folder):
  path = roberta(folder)
  (folder / "config.json").write_text(json.dumps({"decoder_start_token_id": 2, "pad_token_id": 1}))
  return path


def unigram(folder):
  """Writes a Unigram tokenizer like T5's, which has sentinels."""
  t = tokenizers.Tokenizer(tokenizers.models.Unigram())
  t.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
  t.decoder = tokenizers.decoders.Metaspace()
  trainer = tokenizers.trainers.UnigramTrainer(
    vocab_size=110,
    special_tokens=["<pad>", "</s>", "<unk>"],
    unk_token="<unk>",
    show_progress=False,
  )
  t.train_from_iterator(TEXTS, trainer)
  t.add_special_tokens([f"<extra_id_{k}>" for k in reversed(range(20))])
  return save(folder, t, eos="</s>", pad="<pad>", unk="<unk>")


def save(folder, tokenizer, **tokens):
  tokenizer.save(str(folder / "tokenizer.json"))
  settings = {f"{role}_token": token for role, token in tokens.items()}
  (folder / "tokenizer_config.json").write_text(json.dumps(settings))
  return str(folder / "tokenizer.json")


KINDS = {
  "wordpiece": wordpiece,
  "byte_level": byte_level,
  "roberta": roberta,
  "bart": bart,
  "unigram": unigram,
}
