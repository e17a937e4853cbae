"""Pre-training objectives, one file each: what is hidden from the model and what it predicts.

  causal_lm.py         next token (GPT-2)
  prefix_lm.py         the rest of a text after its beginning (T5, UL2)
  span_corruption.py   hidden spans, each replaced by a sentinel (T5)
  text_infilling.py    hidden spans, each replaced by one [MASK] (BART)
  fill_in_middle.py    the middle between a beginning and an end (FIM)
  masked_lm.py         hidden tokens (BERT, RoBERTa)
  masked_diffusion.py  a random share of hidden tokens (LLaDA)
  next_sentence.py     masked_lm, and whether two segments belong together (BERT)
  sentence_order.py    masked_lm, and which of two segments comes first (ALBERT)
  mixture.py, ul2.py   several objectives in one run
base.py says what an objective is; CONTRIBUTING.md adds one step by step.
"""
