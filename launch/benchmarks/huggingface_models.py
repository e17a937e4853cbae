"""T5, BERT, GPT-2 and Llama of this package as transformers models, for the step benchmark.

A configuration that is none of these four models is refused.
"""

from typing import Any

from t5x_style.interop.huggingface.config_json import activation_name
from t5x_style.models import TransformerConfig

from ..process.errors import ConfigurationError


def family(config: TransformerConfig) -> str:
  """Returns "t5", "bert", "gpt2" or "llama".

  Raises:
    ConfigurationError: the model is none of them; the message has its properties.
  """
  gated = len(config.mlp_activations) == 2 and config.mlp_activations[1] == "linear"
  known = {
    "t5": ("encoder_decoder", "relative", "rms", "pre", False, False),
    "bert": ("encoder_only", "learned", "layer", "post", True, True),
    "gpt2": ("decoder_only", "learned", "layer", "pre", True, True),
    "llama": ("decoder_only", "rotary", "rms", "pre", False, True),
  }
  names = ("architecture", "positions", "norm", "norm_position", "use_bias", "scale_attention")
  own = tuple(getattr(config, name) for name in names)
  for name, wanted in known.items():
    mlp = gated if name == "llama" else gated or len(config.mlp_activations) == 1
    special = config.qk_norm or config.logit_soft_cap or config.pooled_classes
    bert = name == "bert"
    heads = (config.head_transform, config.head_bias, config.embedding_norm) == (bert,) * 3
    scaled = config.tie_embeddings and config.scale_logits and name != "t5"
    scaled = scaled or config.tied_logit_factor != 1
    if own == wanted and mlp and heads and not special and not scaled:
      return name
  shown = ", ".join(f"{name} {value!r}" for name, value in zip(names, own, strict=True))
  raise ConfigurationError(
    "--against=hf trains T5, BERT, GPT-2 and Llama as transformers has them; this model is none "
    f"of them: {shown}, mlp_activations {config.mlp_activations!r}, tie_embeddings "
    f"{config.tie_embeddings}, scale_logits {config.scale_logits}, base_emb_dim "
    f"{config.base_emb_dim}. Leave --against out, or take models/ of one of these."
  )


def build(config: TransformerConfig, length: int) -> Any:
  """Returns a transformers model of the same architecture, without dropout.

  Args:
    length: tokens per row.
  """
  shared: dict[str, Any] = {
    "vocab_size": config.vocab_size,
    "use_cache": False,
    "tie_word_embeddings": config.tie_embeddings,
  }
  builders = {"t5": _build_t5, "bert": _build_bert, "gpt2": _build_gpt2, "llama": _build_llama}
  return builders[family(config)](config, length, shared)


def _build_t5(config: TransformerConfig, length: int, shared: dict[str, Any]) -> Any:
  import transformers

  del length
  activation = activation_name(config.mlp_activations[0])
  if len(config.mlp_activations) > 1:
    activation = "gated-gelu" if activation == "gelu_new" else f"gated-{activation}"
  settings: Any = transformers.T5Config(
    d_model=config.emb_dim,
    d_kv=config.head_dim,
    d_ff=config.mlp_dim,
    num_layers=config.num_encoder_layers,
    num_decoder_layers=config.num_decoder_layers,
    num_heads=config.num_heads,
    relative_attention_num_buckets=config.relative_buckets,
    relative_attention_max_distance=config.relative_max_distance,
    layer_norm_epsilon=config.norm_epsilon,
    dropout_rate=0.0,
    feed_forward_proj=activation,
    **shared,
  )
  settings.scale_decoder_outputs = config.tie_embeddings and config.scale_logits
  model = _model(transformers.T5ForConditionalGeneration, settings)
  if not config.tie_embeddings:  # T5Config always ties them.
    head = model.lm_head
    model.lm_head = type(head)(head.in_features, head.out_features, bias=False)
  return model


def _build_bert(config: TransformerConfig, length: int, shared: dict[str, Any]) -> Any:
  import transformers

  del length
  settings = transformers.BertConfig(
    hidden_size=config.emb_dim,
    num_hidden_layers=config.num_encoder_layers,
    num_attention_heads=config.num_heads,
    intermediate_size=config.mlp_dim,
    hidden_act=activation_name(config.mlp_activations[0]),
    max_position_embeddings=config.max_length,
    type_vocab_size=config.num_token_types,
    layer_norm_eps=config.norm_epsilon,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    **shared,
  )
  return _model(transformers.BertForMaskedLM, settings)


def _build_gpt2(config: TransformerConfig, length: int, shared: dict[str, Any]) -> Any:
  import transformers

  del length
  settings = transformers.GPT2Config(
    n_embd=config.emb_dim,
    n_layer=config.num_decoder_layers,
    n_head=config.num_heads,
    n_inner=config.mlp_dim,
    n_positions=config.max_length,
    activation_function=activation_name(config.mlp_activations[0]),
    layer_norm_epsilon=config.norm_epsilon,
    resid_pdrop=0.0,
    embd_pdrop=0.0,
    attn_pdrop=0.0,
    **shared,
  )
  return _model(transformers.GPT2LMHeadModel, settings)


def _build_llama(config: TransformerConfig, length: int, shared: dict[str, Any]) -> Any:
  import transformers

  settings = transformers.LlamaConfig(
    hidden_size=config.emb_dim,
    intermediate_size=config.mlp_dim,
    num_hidden_layers=config.num_decoder_layers,
    num_attention_heads=config.num_heads,
    num_key_value_heads=config.kv_heads,
    head_dim=config.head_dim,
    hidden_act=activation_name(config.mlp_activations[0]),
    max_position_embeddings=length,
    rms_norm_eps=config.norm_epsilon,
    rope_parameters={"rope_type": "default", "rope_theta": config.rotary_base},
    **shared,
  )
  return _model(transformers.LlamaForCausalLM, settings)


def _model(kind, config):
  # The fastest attention that transformers has for this model.
  config._attn_implementation = "sdpa" if getattr(kind, "_supports_sdpa", False) else "eager"
  return kind(config)
