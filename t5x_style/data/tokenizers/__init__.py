"""Tokenizers: text to token ids and back. SeqIO and the gin files call them vocabularies.

Kinds, each with the function that gin binds and the class of its vocabularies:
  vocabularies.py             sentencepiece and byte_vocabulary: seqio_vocabularies.py
  huggingface_tokenizers.py   hf_tokenizer: huggingface_vocabulary.py
To add a kind, write a subclass of base.ExternalVocabulary and the function that gin binds in new
files, and include the function in a new file of gin_configs/data/.

  base.py                     what a tokenizer of another library has to provide
  vocabulary.py               the type of vocabularies, where SeqIO is not imported
  token_ids.py                the ids of a vocabulary, also where there is only its codec
  special_tokens.py           the ids of special tokens and sentinels
  token_text.py               the text and the bytes of each id
  words_and_sentences.py      where words begin and sentences end
  vocabulary_coverage.py      how much of some texts a vocabulary cannot spell
  vocabulary_training.py      trains SentencePiece models
The codecs of t5x_style/codecs/ encode the text, also where there is no TensorFlow.
t5x_style/data/model_ids.py maps the ids of a vocabulary to those that the model gets.
"""
