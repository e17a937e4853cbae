"""Vocabularies: text to ids and back, from SentencePiece, bytes or Hugging Face tokenizers."""
