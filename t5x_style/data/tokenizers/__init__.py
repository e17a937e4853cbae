"""Tokenizers: text to token ids and back. SeqIO and the gin files call them vocabularies.

Kinds, each with the function that gin binds:
  vocabularies.py             sentencepiece (SentencePiece models) and byte_vocabulary
  huggingface_tokenizers.py   hf_tokenizer (Hugging Face's: tokenizer.json, vocab.txt ...)
To add a kind, write a subclass of base.ExternalVocabulary and the function that gin binds in a new
file, and include it in a new file of gin_configs/data/.

  base.py                     what a tokenizer of another library has to provide
  special_tokens.py           the ids of special tokens and sentinels
  token_text.py               the text and the bytes of each id
  words_and_sentences.py      where words begin and sentences end
  vocabulary_coverage.py      how much of some texts a vocabulary cannot spell
  vocabulary_training.py      trains SentencePiece models
The codecs of t5x_style/codecs/ encode the text, also where there is no TensorFlow.
t5x_style/data/model_ids.py maps the ids of a vocabulary to those that the model gets.
"""
