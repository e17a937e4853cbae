"""T5, BERT, GPT-2 and Llama of this package as transformers models with the same parameters.

Only for the step benchmark, so that both sides start from the same weights; t5x_style.interop
converts checkpoints. A configuration that is none of these four models is refused.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from t5x_style.models import TransformerConfig

from ..process.errors import ConfigurationError

Arrays = dict[str, Any]  # of numpy

# {name of an activation: its name in transformers}
_ACTIVATIONS = {"gelu": "gelu_new", "gelu_exact": "gelu", "relu": "relu", "silu": "silu"}


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
    if own == wanted and mlp and heads and not special and not scaled:
      return name
  shown = ", ".join(f"{name} {value!r}" for name, value in zip(names, own, strict=True))
  raise ConfigurationError(
    "--against=hf trains T5, BERT, GPT-2 and Llama as transformers has them; this model is none "
    f"of them: {shown}, mlp_activations {config.mlp_activations!r}, tie_embeddings "
    f"{config.tie_embeddings}, scale_logits {config.scale_logits}. Leave --against out, or take "
    "models/ of one of these."
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
  activation = _ACTIVATIONS[config.mlp_activations[0]]
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
    hidden_act=_ACTIVATIONS[config.mlp_activations[0]],
    max_position_embeddings=config.max_length,
    type_vocab_size=max(1, config.num_token_types),
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
    activation_function=_ACTIVATIONS[config.mlp_activations[0]],
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
    hidden_act=_ACTIVATIONS[config.mlp_activations[0]],
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


def weights(config: TransformerConfig, params: Any) -> Arrays:
  """Returns the parameters with the names and layouts of the model that `build` returns."""
  flat = {
    "/".join(str(key.key) for key in path): np.asarray(jax.device_get(leaf), np.float32)
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]
  }
  named = {"t5": _t5, "bert": _bert, "gpt2": _gpt2, "llama": _llama}[family(config)](flat, config)
  return {name: np.ascontiguousarray(value) for name, value in named.items()}


def _layers(flat: Mapping[str, Any], side: str) -> list[Callable[[str], Any]]:
  """Returns for each layer, scanned or unrolled, a function from "mlp/wi/kernel" to its array."""
  names = [name for name in flat if name.startswith(f"{side}/layers")]

  def scanned(i: int, name: str) -> Any:
    return flat[f"{side}/layers/{name}"][i]

  def unrolled(i: int, name: str) -> Any:
    return flat[f"{side}/layers_{i}/{name}"]

  if names[0].startswith(f"{side}/layers/"):
    return [functools.partial(scanned, i) for i in range(flat[names[0]].shape[0])]
  count = 1 + max(int(re.findall(r"layers_(\d+)/", name)[0]) for name in names)
  return [functools.partial(unrolled, i) for i in range(count)]


def _dense(layer: Callable[[str], Any], name: str, conv: bool = False) -> Arrays:
  """Returns {"weight", "bias"} of nn.Linear ([out, in]), or of GPT-2's Conv1D ([in, out])."""
  kernel = layer(f"{name}/kernel")
  inputs = 2 if name.endswith("/out") else 1  # [N, H, D], all others [D, ...].
  kernel = kernel.reshape(int(np.prod(kernel.shape[:inputs])), -1)
  made: Arrays = {"weight": kernel if conv else kernel.T}
  try:
    made["bias"] = layer(f"{name}/bias").reshape(-1)
  except KeyError:
    pass
  return made


def _norm(layer: Callable[[str], Any], name: str) -> Arrays:
  made: Arrays = {"weight": layer(f"{name}/scale")}
  try:
    made["bias"] = layer(f"{name}/bias")
  except KeyError:
    pass
  return made


def _put(out: Arrays, prefix: str, made: Arrays) -> None:
  out.update({f"{prefix}.{name}": value for name, value in made.items()})


def _t5(flat, config) -> Arrays:
  get = flat.__getitem__
  out: Arrays = {"shared.weight": get("token_embed/embedding")}
  if not config.tie_embeddings:
    out["lm_head.weight"] = get("head/kernel").T
  mlp = ("wi_0", "wi_1", "wo") if len(config.mlp_activations) > 1 else ("wi", "wo")
  for side in ("encoder", "decoder"):
    _put(out, f"{side}.final_layer_norm", _norm(get, f"{side}/final_norm"))
    table = get(f"{side}/relative_bias/embedding").T
    out[f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = table
    parts = {"self_attention": "SelfAttention"}
    if side == "decoder":
      parts["cross_attention"] = "EncDecAttention"
    for i, layer in enumerate(_layers(flat, side)):
      for j, (ours, theirs) in enumerate(parts.items()):
        at = f"{side}.block.{i}.layer.{j}"
        _put(out, f"{at}.layer_norm", _norm(layer, f"{ours}_norm"))
        for name, short in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
          _put(out, f"{at}.{theirs}.{short}", _dense(layer, f"{ours}/{name}"))
      at = f"{side}.block.{i}.layer.{len(parts)}"
      _put(out, f"{at}.layer_norm", _norm(layer, "mlp_norm"))
      for name in mlp:
        _put(out, f"{at}.DenseReluDense.{name}", _dense(layer, f"mlp/{name}"))
  return out


def _bert(flat, config) -> Arrays:
  get, out = flat.__getitem__, Arrays()
  embeddings = "bert.embeddings"
  out[f"{embeddings}.word_embeddings.weight"] = get("token_embed/embedding")
  out[f"{embeddings}.position_embeddings.weight"] = get("position_embed/embedding")
  types = flat.get("type_embed/embedding", np.zeros((1, config.emb_dim), np.float32))
  out[f"{embeddings}.token_type_embeddings.weight"] = types
  _put(out, f"{embeddings}.LayerNorm", _norm(get, "embed_norm"))
  for i, layer in enumerate(_layers(flat, "encoder")):
    at = f"bert.encoder.layer.{i}"
    for name in ("query", "key", "value"):
      _put(out, f"{at}.attention.self.{name}", _dense(layer, f"self_attention/{name}"))
    _put(out, f"{at}.attention.output.dense", _dense(layer, "self_attention/out"))
    _put(out, f"{at}.attention.output.LayerNorm", _norm(layer, "self_attention_norm"))
    _put(out, f"{at}.intermediate.dense", _dense(layer, "mlp/wi"))
    _put(out, f"{at}.output.dense", _dense(layer, "mlp/wo"))
    _put(out, f"{at}.output.LayerNorm", _norm(layer, "mlp_norm"))
  head = "cls.predictions"
  _put(out, f"{head}.transform.dense", _dense(get, "head/transform"))
  _put(out, f"{head}.transform.LayerNorm", _norm(get, "head/transform_norm"))
  out[f"{head}.bias"] = get("head/bias")
  if not config.tie_embeddings:
    out[f"{head}.decoder.weight"] = get("head/kernel").T
  return out


def _gpt2(flat, config) -> Arrays:
  get, out = flat.__getitem__, Arrays()
  out["transformer.wte.weight"] = get("token_embed/embedding")
  out["transformer.wpe.weight"] = get("position_embed/embedding")
  for i, layer in enumerate(_layers(flat, "decoder")):
    at = f"transformer.h.{i}"
    parts = [_dense(layer, f"self_attention/{name}", True) for name in ("query", "key", "value")]
    fused = {name: np.concatenate([p[name] for p in parts], axis=-1) for name in parts[0]}
    _put(out, f"{at}.attn.c_attn", fused)
    _put(out, f"{at}.attn.c_proj", _dense(layer, "self_attention/out", True))
    _put(out, f"{at}.mlp.c_fc", _dense(layer, "mlp/wi", True))
    _put(out, f"{at}.mlp.c_proj", _dense(layer, "mlp/wo", True))
    _put(out, f"{at}.ln_1", _norm(layer, "self_attention_norm"))
    _put(out, f"{at}.ln_2", _norm(layer, "mlp_norm"))
  _put(out, "transformer.ln_f", _norm(get, "decoder/final_norm"))
  if not config.tie_embeddings:
    out["lm_head.weight"] = get("head/kernel").T
  return out


def _llama(flat, config) -> Arrays:
  get, out = flat.__getitem__, Arrays()
  out["model.embed_tokens.weight"] = get("token_embed/embedding")
  for i, layer in enumerate(_layers(flat, "decoder")):
    at = f"model.layers.{i}"
    for name, short in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "o")):
      _put(out, f"{at}.self_attn.{short}_proj", _dense(layer, f"self_attention/{name}"))
    for name, theirs in (("wi_0", "gate"), ("wi_1", "up"), ("wo", "down")):
      _put(out, f"{at}.mlp.{theirs}_proj", _dense(layer, f"mlp/{name}"))
    _put(out, f"{at}.input_layernorm", _norm(layer, "self_attention_norm"))
    _put(out, f"{at}.post_attention_layernorm", _norm(layer, "mlp_norm"))
  _put(out, "model.norm", _norm(get, "decoder/final_norm"))
  if not config.tie_embeddings:
    out["lm_head.weight"] = get("head/kernel").T
  return out
