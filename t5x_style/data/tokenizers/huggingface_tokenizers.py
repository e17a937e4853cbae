"""Hugging Face's tokenizers (tokenizer.json, vocab.txt, vocab.json) as vocabularies.

Gin binds this function. SeqIO and TensorFlow are imported when a vocabulary is made; see
vocabularies.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from t5x_style.codecs import published_tokenizers
from t5x_style.data.tokenizers.vocabulary import Vocabulary
from t5x_style.setting_types import SentinelCount, Text


def hf_tokenizer(
  path: Text,
  extra_ids: SentinelCount = 0,
  specials_from_extra_ids: Sequence[Text] = (),
  special_tokens: Mapping[Text, Text] | None = None,
  lower_case: bool | None = None,
) -> Vocabulary:
  """Returns the vocabulary of a Hugging Face tokenizer; a model needs a row for each of its tokens.

  tokenizer_config.json beside it says which tokens are padding, EOS, [CLS] ..., else the special
  tokens in the file itself do. Documents end with EOS or, if there is none, with [SEP]. Decoders
  start with config.json's decoder_start_token_id, else with BOS, padding or EOS.

  Args:
    path: a tokenizer.json, BERT's vocab.txt, GPT-2's vocab.json (with merges.txt beside it), or the
      folder of one; also gs://...
    extra_ids: sentinels to append if the tokenizer has none; sentinel k is vocab_size - 1 - k.
    specials_from_extra_ids: special tokens the file lacks; see vocabularies.sentencepiece.
    special_tokens: overrides what the files say: {"eos": "<|end|>", "pad": ..., "start": ...,
      "[MASK]": "<mask>", "[R]": "<denoise>"}.
    lower_case: of a vocab.txt; see published_tokenizers.read.

  Raises:
    UserError: the package tokenizers is not installed, the file does not exist, is not a tokenizer
      or cannot encode every text, or a token is unknown.
  """
  from t5x_style.data.tokenizers.huggingface_vocabulary import remade

  found = published_tokenizers.read(path, lower_case)
  tokens = {**found.tokens, **(special_tokens or {})}
  return remade(found.content, str(found.file), tokens, extra_ids, specials_from_extra_ids)
