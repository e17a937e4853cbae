"""Small random models of transformers, and inputs for them and for this package's."""

import functools
import json

import jax
import numpy as np
import pytest

from t5x_style.checkpoints.array_writer import ArrayWriter
from t5x_style.interop.huggingface import checkpoint_export, config_export, correspondence
from t5x_style.models import Transformer

T5 = {
  "vocab_size": 96,
  "d_model": 32,
  "num_heads": 3,
  "d_kv": 12,  # not d_model / num_heads
  "d_ff": 40,
  "num_layers": 2,
  "num_decoder_layers": 3,
  "relative_attention_num_buckets": 8,
  "relative_attention_max_distance": 12,
}
SWITCH = "SwitchTransformersForConditionalGeneration"
SPARSE = T5 | {"num_sparse_encoder_layers": 2, "num_sparse_decoder_layers": 1}
BERT = {
  "vocab_size": 96,
  "hidden_size": 32,
  "num_hidden_layers": 3,
  "num_attention_heads": 4,
  "intermediate_size": 40,
  "max_position_embeddings": 24,
}
LLAMA = {
  "vocab_size": 96,
  "hidden_size": 36,
  "num_hidden_layers": 3,
  "num_attention_heads": 6,
  "num_key_value_heads": 2,
  "head_dim": 12,
  "intermediate_size": 40,
}
LLAMA3_ROPE = {
  "rope_type": "llama3",
  "rope_theta": 100.0,
  "factor": 8.0,
  "low_freq_factor": 1.0,
  "high_freq_factor": 4.0,
  "original_max_position_embeddings": 16,
}
# Of its six pairs the first is kept, the last two are interpolated whole, the others in part.
YARN_ROPE = {
  "rope_type": "yarn",
  "rope_theta": 100.0,
  "factor": 4.0,
  "original_max_position_embeddings": 16,
  "beta_fast": 2.0,
  "beta_slow": 0.25,
}
MODERNBERT = {
  "vocab_size": 96,
  "hidden_size": 32,
  "num_hidden_layers": 5,  # not whole cycles of one global and two local layers
  "num_attention_heads": 4,
  "intermediate_size": 40,
  "local_attention": 6,
  "pad_token_id": 1,
  **dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 2),
}
# name: (class of transformers, its configuration)
MODELS = {
  "t5": ("T5ForConditionalGeneration", T5),
  "t5_1_1": ("T5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu", "head": True}),
  "mt5": ("MT5ForConditionalGeneration", T5 | {"feed_forward_proj": "gated-gelu", "head": True}),
  # An expert drops tokens of rows of 13.
  "switch": (SWITCH, SPARSE | {"num_layers": 4, "num_experts": 4, "expert_capacity": 3}),
  "switch_all": (
    SWITCH,
    SPARSE | {"num_sparse_decoder_layers": 3, "num_experts": 3, "tie_word_embeddings": False},
  ),
  "bert": ("BertForPreTraining", BERT),
  "bert_masked": ("BertForMaskedLM", BERT | {"hidden_act": "gelu_new", "type_vocab_size": 3}),
  "bert_bare": ("BertModel", BERT),
  "bert_labels": ("BertForSequenceClassification", BERT | {"num_labels": 5}),
  "gpt2": (
    "GPT2LMHeadModel",
    {"vocab_size": 96, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 24},
  ),
  "llama": ("LlamaForCausalLM", LLAMA | {"rope_parameters": {"rope_theta": 500.0}}),
  "llama_biased": (
    "LlamaForCausalLM",
    LLAMA | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
  ),
  "llama_scaled": (
    "LlamaForCausalLM",
    LLAMA | {"max_position_embeddings": 64, "rope_parameters": LLAMA3_ROPE},
  ),
  "llama_linear": (
    "LlamaForCausalLM",
    LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}},
  ),
  "llama_yarn": (
    "LlamaForCausalLM",
    LLAMA | {"max_position_embeddings": 64, "rope_parameters": YARN_ROPE},
  ),
  "qwen3_windows": (
    "Qwen3ForCausalLM",
    LLAMA
    | {"num_hidden_layers": 6, "sliding_window": 4, "use_sliding_window": True}
    | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2},
  ),
  "bart": (
    "BartForConditionalGeneration",
    {"vocab_size": 96, "d_model": 32, "encoder_layers": 3, "decoder_layers": 2}
    | {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    | {"encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 24},
  ),
  "roberta": ("RobertaForMaskedLM", BERT | {"type_vocab_size": 1, "layer_norm_eps": 1e-5}),
  "roberta_labels": (
    "RobertaForSequenceClassification",
    BERT | {"num_labels": 3, "type_vocab_size": 1, "tie_word_embeddings": False},
  ),
  "albert": ("AlbertForPreTraining", BERT | {"embedding_size": 12}),
  "albert_masked": (
    "AlbertForMaskedLM",
    BERT | {"embedding_size": 12, "inner_group_num": 2, "hidden_act": "relu"},
  ),
  "modernbert": ("ModernBertForMaskedLM", MODERNBERT),
  "modernbert_biased": (
    "ModernBertForMaskedLM",
    MODERNBERT
    | dict.fromkeys(("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"), True)
    | {"decoder_bias": False, "hidden_activation": "silu", "classifier_activation": "silu"},
  ),
  "qwen3": ("Qwen3ForCausalLM", LLAMA | {"tie_word_embeddings": True}),
  "mixtral": ("MixtralForCausalLM", LLAMA | {"num_local_experts": 5, "num_experts_per_tok": 2}),
  "qwen3_moe": (
    "Qwen3MoeForCausalLM",
    LLAMA
    | {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 20}
    | {"norm_topk_prob": True, "decoder_sparse_step": 2},
  ),
  "qwen3_moe_all": (
    "Qwen3MoeForCausalLM",
    LLAMA
    | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 20}
    | {"use_sliding_window": True, "sliding_window": 4},
  ),
}


# Untied models of transformers have a second bias of the head, which no forward pass uses.
UNTIED = {
  "bert_untied": ("BertForMaskedLM", BERT | {"tie_word_embeddings": False}),
  "roberta_untied": ("RobertaForMaskedLM", BERT | {"tie_word_embeddings": False}),
}


@pytest.fixture(params=MODELS)
def name(request):
  return request.param


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory):
  """Returns a function: name -> (model of transformers, the folder it was saved to)."""
  torch = pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  transformers.logging.set_verbosity_error()
  torch.set_num_threads(1)  # More are slower with models as small as these.
  transformers.logging.disable_progress_bar()

  @functools.cache
  def make(name):
    kind, settings = (MODELS | UNTIED)[name]
    settings = dict(settings)
    own_head = settings.pop("head", False)
    model_class = getattr(transformers, kind)
    model = model_class(model_class.config_class(**settings)).eval()
    if own_head:  # As T5 1.1 was published: a head with a table of its own.
      model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.shared.weight))
    randomise(torch, model, seed=len(name))
    if name == "switch_all":  # Untied, transformers has a table for each stack.
      for stack in (model.encoder, model.decoder):
        stack.embed_tokens.weight = torch.nn.Parameter(model.shared.weight.detach().clone())
    folder = tmp_path_factory.mktemp(name)
    model.save_pretrained(folder)
    if own_head:
      alter_settings(folder, tie_word_embeddings=False, scale_decoder_outputs=False)
      model = model_class.from_pretrained(folder).eval()
    return model, folder

  return make


def randomise(torch, model, seed):
  """Replaces all numbers: transformers initialises biases with 0 and norms with 1."""
  draw = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, x in model.named_parameters():
      norm = x.ndim == 1 and not name.endswith("bias")
      deviation = x.shape[-1] ** -0.5 if x.ndim > 1 else 0.3
      x.copy_(torch.randn(x.shape, generator=draw) * deviation + norm)
  return model


def parameters(folder):
  """Returns {keys: array} of an opened folder, read through the views of its rules."""
  found = {}
  for keys, parts in folder.correspondence.places.items():
    arrays = [np.array(folder.view(rule)) for _, rule in parts]
    sizes = np.max([place.index for place, _ in parts], axis=0) + 1 if parts[0][0].index else ()
    found[keys] = np.stack(arrays).reshape(*map(int, sizes), *arrays[0].shape)
  return found


def tree(arrays):
  nested = {}
  for keys, array in arrays.items():
    branch = nested
    for key in keys[:-1]:
      branch = branch.setdefault(key, {})
    branch[keys[-1]] = array
  return nested


def random_parameters(config, seed=0):
  """Returns random parameters {keys: array} of this package's model, none of them 0 or 1."""
  draw = np.random.default_rng(seed)
  arrays = {}
  for keys, x in correspondence.abstract_params(config).items():
    vector = keys[-1] in ("scale", "bias")
    deviation = 0.3 if vector else x.shape[-1] ** -0.5
    if "query" in keys and not config.scale_attention:
      deviation /= (
        config.head_dim**0.5
      )  # As T5 starts: larger logits of attention amplify rounding.
    arrays[keys] = (draw.normal(0, deviation, x.shape) + (keys[-1] == "scale")).astype(np.float32)
  return arrays


def make_inputs(config, seed=0):
  """Returns tokens, mask, types [2, 13], the second row padded, and decoder tokens [2, 9]."""
  draw = np.random.default_rng(seed)
  tokens = draw.integers(2, config.vocab_size, (2, 13))
  mask = np.ones_like(tokens)
  mask[1, 8:] = 0
  types = draw.integers(0, max(config.num_token_types, 1), tokens.shape)
  decoder = draw.integers(2, config.vocab_size, (2, 9))
  decoder[:, 0] = 0
  return {"tokens": tokens * mask, "mask": mask, "types": types, "decoder": decoder}


def outputs_here(config, arrays, inputs):
  """Returns this package's logits (without a head: hidden states), and those of the classes."""
  batch = {"decoder_input_tokens": inputs["tokens"]}
  if config.num_encoder_layers:
    batch = {"encoder_input_tokens": inputs["tokens"], "encoder_segment_ids": inputs["mask"]}
    if config.num_token_types:
      batch["encoder_token_types"] = inputs["types"]
  if config.architecture == "encoder_decoder":
    batch["decoder_input_tokens"] = inputs["decoder"]
    batch["decoder_segment_ids"] = np.ones_like(inputs["decoder"])
  out = _forward(config)(tree(arrays), batch)
  headless = config.architecture == "encoder_only" and not config.head_transform
  return np.asarray(out.hidden if headless else out.logits()), out.pooled_logits


@functools.cache
def _forward(config):
  model = Transformer(config)
  return jax.jit(lambda params, batch: model.apply({"params": params}, batch))


def outputs_there(model, config, inputs):
  """Returns what outputs_here returns, of a model of transformers."""
  import torch

  given = {"input_ids": inputs["tokens"], "attention_mask": inputs["mask"]}
  if config.num_token_types:
    given["token_type_ids"] = inputs["types"]
  if config.architecture == "encoder_decoder":
    given["decoder_input_ids"] = inputs["decoder"]
  with torch.no_grad():
    given = {name: torch.tensor(x) for name, x in given.items()}
    out = model(**given, return_dict=True)
    if type(model).__name__.endswith("ForSequenceClassification"):
      return model.base_model(**given).last_hidden_state.numpy(), out.logits.numpy()
  scores = next(out[k] for k in ("prediction_logits", "logits", "last_hidden_state") if k in out)
  pairs = out.get("seq_relationship_logits", out.get("sop_logits"))
  return scores.numpy(), None if pairs is None else pairs.numpy()


def where_it_counts(scores, config, inputs):
  """Returns the scores without those of padding, of which encoder-decoders score none."""
  return scores if config.architecture == "encoder_decoder" else scores[inputs["mask"] > 0]


@pytest.fixture
def run_here():
  """An opened folder -> the outputs of this package's model."""

  def run(folder):
    config = folder.correspondence.config
    inputs = make_inputs(config)
    return where_it_counts(outputs_here(config, parameters(folder), inputs)[0], config, inputs)

  return run


@pytest.fixture
def run_transformers():
  """(model of transformers, config here) -> the outputs of transformers."""

  def run(model, config):
    inputs = make_inputs(config)
    return where_it_counts(outputs_there(model, config, inputs)[0], config, inputs)

  return run


@pytest.fixture
def compare():
  """(model of transformers, config, parameters here): asserts equal outputs, within 1e-4."""

  def check(model, config, arrays):
    inputs = make_inputs(config)
    wanted, wanted_pairs = outputs_there(model, config, inputs)
    found, found_pairs = outputs_here(config, arrays, inputs)
    wanted, found = (where_it_counts(x, config, inputs) for x in (wanted, found))
    assert np.abs(wanted).max() > 0.3
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    assert (wanted_pairs is not None) == bool(config.pooled_classes)
    if wanted_pairs is not None:
      np.testing.assert_allclose(found_pairs, wanted_pairs, rtol=0, atol=1e-4)

  return check


@pytest.fixture
def read_parameters():
  return parameters


@pytest.fixture
def as_tree():
  return tree


@pytest.fixture
def draw_parameters():
  return random_parameters


def alter_settings(folder, *removed, **changes):
  """Removes and sets keys of config.json."""
  file = folder / "config.json"
  values = json.loads(file.read_text())
  file.write_text(json.dumps({k: x for k, x in values.items() if k not in removed} | changes))


@pytest.fixture
def change_settings():
  return alter_settings


@pytest.fixture
def draw_inputs():
  return make_inputs


@pytest.fixture
def export_and_load(tmp_path):
  """(config, parameters) -> the exported model in transformers, and its loading info."""
  pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")

  def export(config, arrays):
    write_step(tmp_path / "step", arrays)
    there, settings = config_export.choose_family(config)
    (tmp_path / "out").mkdir()
    report = checkpoint_export.export_step(
      tmp_path / "step", tmp_path / "out", there, max_shard_size=1e9
    )
    checkpoint_export.write_config_json(tmp_path / "out", settings, report)
    model_class = getattr(transformers, settings["architectures"][0])
    loaded, info = model_class.from_pretrained(tmp_path / "out", output_loading_info=True)
    return loaded.eval(), info

  return export


def write_step(step, arrays):
  """Writes {keys: array} as a checkpoint."""
  writer = ArrayWriter(step)
  for keys, array in arrays.items():
    writer.create(("params", *keys), array.shape, array.shape, array.dtype)[...] = array
  writer.close()
