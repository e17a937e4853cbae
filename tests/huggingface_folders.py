"""Small Hugging Face models with random parameters and tokenizers of their own, in folders."""

import json

import tokenizers
import torch
import transformers

from tests import tokenizer_files

SIZES = {
  "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40},
  "llama": {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
  },
  "t5": {"d_model": 32, "num_heads": 2, "d_kv": 12, "d_ff": 40, "num_layers": 2},
  "bart": {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
  },
  "bert": {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
  },
}
CLASSES = {
  "gpt2": "GPT2LMHeadModel",
  "llama": "LlamaForCausalLM",
  "t5": "T5ForConditionalGeneration",
  "bart": "BartForConditionalGeneration",
  "bert": "BertForMaskedLM",
}
TOKENIZERS = {
  "gpt2": tokenizer_files.byte_level,
  "llama": tokenizer_files.roberta,
  "t5": tokenizer_files.unigram,
  "bart": tokenizer_files.roberta,
  "bert": tokenizer_files.wordpiece,
}
# What each tokenizer puts around a text.
TEMPLATES = {
  "llama": ("<s> $A", ("<s>",)),
  "t5": ("$A </s>", ("</s>",)),
  "bart": ("<s> $A </s>", ("<s>", "</s>")),
}


def save(family, folder):
  """Saves a model of a family, a key of CLASSES, and returns (model, tokenizer) of transformers."""
  TOKENIZERS[family](folder)
  tokenizer = _with_template(family, folder)
  ids = {
    f"{role}_token_id": getattr(tokenizer, f"{role}_token_id")
    for role in ("bos", "eos", "pad")
    if getattr(tokenizer, f"{role}_token_id") is not None
  }
  if family in ("t5", "bart"):
    ids["decoder_start_token_id"] = 0 if family == "t5" else tokenizer.eos_token_id
  model_class = getattr(transformers, CLASSES[family])
  config = model_class.config_class(vocab_size=len(tokenizer), **SIZES[family], **ids)
  model = model_class(config).eval()
  draw = torch.Generator().manual_seed(7)
  with torch.no_grad():
    for name, x in model.named_parameters():
      norm = x.ndim == 1 and not name.endswith("bias")
      x.copy_(torch.randn(x.shape, generator=draw) * (x.shape[-1] ** -0.5) + norm)
  model.save_pretrained(folder)
  return model, tokenizer


def _with_template(family, folder):
  """Sets what a tokenizer puts around a text, and opens it with transformers."""
  file = str(folder / "tokenizer.json")
  tokenizer = tokenizers.Tokenizer.from_file(file)
  tokenizer.no_truncation()
  if family in TEMPLATES:
    single, special = TEMPLATES[family]
    numbers = [(token, tokenizer.token_to_id(token)) for token in special]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
      single=single, special_tokens=numbers
    )
  tokenizer.save(file)
  settings = folder / "tokenizer_config.json"
  named = json.loads(settings.read_text())
  named["tokenizer_class"] = "PreTrainedTokenizerFast"
  settings.write_text(json.dumps(named))
  return transformers.PreTrainedTokenizerFast.from_pretrained(folder)
