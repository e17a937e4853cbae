"""Pre-training of encoder-decoder, decoder-only and encoder-only Transformers in JAX and Flax."""
