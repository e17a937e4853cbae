"""Vocabularies: text to token ids and back. Where to find what:

  vocabularies.py             SentencePiece models and bytes; what gin binds
  huggingface_tokenizers.py   a tokenizer.json of Hugging Face; what gin binds
  base.py                     what the tokenizer of another library has to provide
  special_tokens.py, token_text.py, words_and_sentences.py   questions that objectives ask
  model_ids.py                the ids of a model, where they differ from those in here
  vocabulary_coverage.py      how much of a text a vocabulary cannot spell
  vocabulary_training.py      trains SentencePiece models
To add a tokenizer, write a subclass of base.ExternalVocabulary in a file of its own, and beside it
the function that gin binds.
"""
