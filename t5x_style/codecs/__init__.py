"""Codecs: text to the ids that a model gets and back, without TensorFlow.

  text_codec.py            TextCodec, what all kinds have in common
  sentencepiece_codec.py   SentencePiece models; sentencepiece_models.py reads their files
  byte_codec.py            UTF-8 bytes
  tokenizer_json_codec.py  Hugging Face's tokenizer.json; tokenizer_json.py checks the files, and
                           published_tokenizers.py makes one of BERT's vocab.txt, GPT-2's vocab.json
  vocabulary_folder.py     the folder MODEL_DIR/vocabulary, from which codecs are made
The SeqIO vocabularies of t5x_style/data/tokenizers/ encode the text of a run with the same codecs.
"""
