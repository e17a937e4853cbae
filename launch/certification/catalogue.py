"""The names of all recipes, in the order in which they run, and a line about each."""

ABOUT = {
  "twin_bert": "BERT with masked LM, 500 steps beside transformers in PyTorch",
  "twin_t5": "T5 with span corruption, the same",
  "twin_gpt2": "GPT-2 with causal LM, the same",
  "twin_llama": "Llama 3 with causal LM, the same",
  "twin_bart": "BART with text infilling, the same",
  "nanogpt_cpu": "nanoGPT's recipe for a CPU: 1.88 nats a character",
  "nanogpt_gpu": "nanoGPT's recipe for a GPU: 1.4697 nats a character",
  "geglu": "GEGLU's loss is below ReLU's (Shazeer 2020), three seeds each",
  "muon": "Muon needs .62 of AdamW's steps (modded-nanogpt), three seeds each",
  "t5_1_1_base_c4": "T5 1.1 base on C4: 1.942 nats (only the gin file)",
  "gpt2_fineweb": "GPT-2 124M on FineWeb: 3.28 nats (only the gin file)",
  "llama_15m_tinystories": "a Llama of 15M on TinyStories: 1.072 nats (only the gin file)",
}
