"""The twin of a run: the published model and AdamW in PyTorch, with the run's first parameters.

Nothing here but sizes comes from the run's configuration. Norms, epsilons, activations, positions
and the optimizer's settings are those of the papers, as transformers' classes have them or as they
are written here: a mistake in a gin file or in this package makes the two curves differ.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from t5x_style.architectures import predicted_side
from t5x_style.models import TransformerConfig
from t5x_style.training import setup

from ..process import environment
from ..torch_peers import parameters, training

# As in gin_configs/certificate/twins.gin.
STEPS = 500
_WARMUP, _PEAK, _FINAL = 50, 3e-4, 0.1
_ADAMW: dict[str, Any] = {"betas": (0.9, 0.95), "eps": 1e-8}
_WEIGHT_DECAY, _CLIP = 0.1, 1.0


def losses(model_type: str, prepared: setup.Prepared, params: Any) -> Iterator[float]:
  """Trains in PyTorch and yields the loss of each of STEPS batches, in nats per target token.

  Args:
    model_type: "bert", "t5", "gpt2", "llama" or "bart".
    prepared: the run, whose batches the twin gets.
    params: the run's parameters before its first step.

  Raises:
    UserError: models of this type do not have the run's parameters.
    AssertionError: a parameter of the published model is missing in the run.
  """
  import torch

  torch.set_num_threads(1)  # The models are so small that more threads cost more than they save.
  config = prepared.config.model
  model = _MODELS[model_type](config)
  parameters.load(model, parameters.tensors(config, params, model_type))
  model.train()
  groups = training.parameter_groups(model, _WEIGHT_DECAY)
  optimizer = torch.optim.AdamW(groups, lr=_PEAK, **_ADAMW)
  side, batches = predicted_side(config.architecture), prepared.dataset.train()
  for step in range(STEPS):
    batch = {name: torch.as_tensor(value) for name, value in next(batches).items()}
    for group in optimizer.param_groups:
      group["lr"] = learning_rate(step)
    logits = model(**_inputs(batch)).logits
    targets, weights = batch[f"{side}_target_tokens"].long(), batch[f"{side}_loss_weights"]
    loss = training.weighted_loss(logits, targets, weights)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
    optimizer.step()
    yield loss.item()


def learning_rate(step: int) -> float:
  """Returns the rate after `step` steps: a linear warm-up from 0, then half a cosine."""
  if step < _WARMUP:
    return _PEAK * step / _WARMUP
  done = (step - _WARMUP) / (STEPS - _WARMUP)
  return _PEAK * (_FINAL + (1 - _FINAL) * 0.5 * (1 + math.cos(math.pi * done)))


def versions() -> dict[str, str]:
  """Returns {"torch": version, "transformers": version}; {} without them, or before version 5."""
  try:
    with environment.quiet_imports():
      import torch
      import transformers
  except ImportError:
    return {}
  if int(transformers.__version__.partition(".")[0]) < 5:  # Its models have other interfaces.
    return {}
  return {"torch": torch.__version__, "transformers": transformers.__version__}


def _inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what a model of transformers is called with.

  Raises:
    AssertionError: rows hold several documents, which transformers cannot tell apart.
  """
  assert not [name for name in batch if name.endswith("_segment_ids")], "Rows have segments."
  if "encoder_input_tokens" not in batch:
    return {"input_ids": batch["decoder_input_tokens"].long(), "use_cache": False}
  encoder = batch["encoder_input_tokens"].long()
  inputs = {"input_ids": encoder, "attention_mask": (encoder != 0).long()}
  if "decoder_input_tokens" in batch:
    inputs |= {"decoder_input_ids": batch["decoder_input_tokens"].long(), "use_cache": False}
  return inputs


def _bert(config: TransformerConfig) -> Any:
  import transformers

  return transformers.BertForMaskedLM(
    transformers.BertConfig(
      vocab_size=config.vocab_size,
      hidden_size=config.emb_dim,
      num_hidden_layers=config.num_encoder_layers,
      num_attention_heads=config.num_heads,
      intermediate_size=config.mlp_dim,
      max_position_embeddings=config.max_length,
      hidden_dropout_prob=0.0,
      attention_probs_dropout_prob=0.0,
    )
  )


def _t5(config: TransformerConfig) -> Any:
  import transformers

  return transformers.T5ForConditionalGeneration(
    transformers.T5Config(
      vocab_size=config.vocab_size,
      d_model=config.emb_dim,
      d_kv=config.head_dim,
      d_ff=config.mlp_dim,
      num_layers=config.num_encoder_layers,
      num_decoder_layers=config.num_decoder_layers,
      num_heads=config.num_heads,
      dropout_rate=0.0,
    )
  )


def _gpt2(config: TransformerConfig) -> Any:
  import transformers

  return transformers.GPT2LMHeadModel(
    transformers.GPT2Config(
      vocab_size=config.vocab_size,
      n_embd=config.emb_dim,
      n_layer=config.num_decoder_layers,
      n_head=config.num_heads,
      n_inner=config.mlp_dim,
      n_positions=config.max_length,
      bos_token_id=None,
      eos_token_id=None,
      resid_pdrop=0.0,
      embd_pdrop=0.0,
      attn_pdrop=0.0,
    )
  )


# Llama 3.1 (Dubey et al. 2024, and the config.json of its checkpoints).
_LLAMA_3_POSITIONS = {
  "rope_type": "llama3",
  "rope_theta": 500_000.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 8192,
}


def _llama(config: TransformerConfig) -> Any:
  import transformers

  return transformers.LlamaForCausalLM(
    transformers.LlamaConfig(
      vocab_size=config.vocab_size,
      hidden_size=config.emb_dim,
      intermediate_size=config.mlp_dim,
      num_hidden_layers=config.num_decoder_layers,
      num_attention_heads=config.num_heads,
      num_key_value_heads=config.kv_heads,
      head_dim=config.head_dim,
      max_position_embeddings=131_072,
      rms_norm_eps=1e-5,
      rope_parameters=_LLAMA_3_POSITIONS,
      tie_word_embeddings=False,
    )
  )


def _bart(config: TransformerConfig) -> Any:
  import transformers

  return transformers.BartForConditionalGeneration(
    transformers.BartConfig(
      vocab_size=config.vocab_size,
      d_model=config.emb_dim,
      encoder_layers=config.num_encoder_layers,
      decoder_layers=config.num_decoder_layers,
      encoder_attention_heads=config.num_heads,
      decoder_attention_heads=config.num_heads,
      encoder_ffn_dim=config.mlp_dim,
      decoder_ffn_dim=config.mlp_dim,
      max_position_embeddings=config.max_length,
      dropout=0.0,
      # The decoder begins with id 0, whose row would get no gradient if it were padding.
      pad_token_id=None,
    )
  )


_MODELS: dict[str, Callable[[TransformerConfig], Any]] = {
  "bert": _bert,
  "t5": _t5,
  "gpt2": _gpt2,
  "llama": _llama,
  "bart": _bart,
}
MODEL_TYPES = tuple(_MODELS)
