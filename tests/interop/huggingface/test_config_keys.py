"""The keys of config.json: each key that transformers reads is used, harmless or refused."""

import json
import shutil

import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.interop.huggingface import family_registry, model_folder
from t5x_style.interop.huggingface.config_json import ConfigJson
from t5x_style.interop.huggingface.families import llama

NAMES = (
  *("t5", "t5_1_1", "mt5", "bart", "bert", "roberta", "albert_masked", "modernbert", "gpt2"),
  *("llama", "llama_scaled", "qwen3_windows", "mixtral", "qwen3_moe_all", "switch"),
)
# Keys that transformers reads and that do not change what a trained model computes.
HARMLESS = {
  # names, versions, dtypes, what is returned, how it is computed
  *("model_type", "architectures", "transformers_version", "name_or_path", "dtype", "torch_dtype"),
  *("output_attentions", "output_hidden_states", "output_cross_attentions", "return_dict"),
  *("use_cache", "gradient_checkpointing", "chunk_size_feed_forward", "attn_implementation"),
  *("base_model_ep_plan", "base_model_fsdp_plan", "base_model_pp_plan", "base_model_tp_plan"),
  *("gguf_file", "reorder_and_upcast_attn", "deterministic_flash_attn", "pretraining_tp"),
  # training: dropout, initial values, losses
  *("attention_dropout", "activation_dropout", "attention_probs_dropout_prob", "attn_pdrop"),
  *("embd_pdrop", "embedding_dropout", "hidden_dropout_prob", "encoder_layerdrop"),
  *("decoder_layerdrop", "initializer_factor", "initializer_cutoff_factor", "init_std"),
  *("initializer_range", "sparse_prediction", "sparse_pred_ignore_index", "layerdrop"),
  *("output_router_logits", "router_jitter_noise", "router_ignore_padding_tokens"),
  *("add_router_probs", "add_cross_attention", "sparse_step"),
  # of heads that this package's models do not have
  *("classifier_dropout", "classifier_dropout_prob", "classifier_pooling", "id2label"),
  *("label2id", "num_labels", "problem_type", "summary_activation", "summary_first_dropout"),
  *("summary_proj_to_labels", "summary_type", "summary_use_proj"),
  # ids for tokenizers and generation
  *("bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id"),
  *("decoder_start_token_id", "forced_eos_token_id", "start_token_id"),
  # read in models of every kind, used in other kinds only
  *("vision_aspect_ratio", "vision_feature_layer", "vision_feature_select_strategy"),
  *("mlp_layer_types", "mtp_layer_types", "head_dim", "num_heads", "ffn_dim", "layer_types"),
  *("is_decoder", "is_encoder_decoder", "is_causal", "per_layer_config", "rope_parameters"),
  *("max_position_embeddings", "original_max_position_embeddings"),
  # attributes of the classes, not keys of files
  *("attribute_map", "sub_configs", "sub_configs_defaults", "is_heterogeneous", "default_theta"),
  *("default_rope_type", "ignore_keys_at_rope_validation"),
}
GENERIC = (
  *(True, False, None, 0, 1, 2, 3, 4, 6, 7, 20, -1, 0.0, 0.5, 1e-3, 1.0, float("nan")),
  *("gelu", "relu", "silu", "gated-gelu", "quick_gelu", "x", "", "relative_key", [], {}, {"a": 1}),
)
SPECIAL = {
  "rope_parameters": [
    {"rope_theta": 50.0},
    {"rope_theta": None},
    {"type": "linear", "factor": 2.0},
    {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0}
    | {"original_max_position_embeddings": 16},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    {"rope_type": "yarn", "rope_theta": 50.0, "factor": 8.0, "beta_fast": 2.0, "truncate": False},
    {"rope_type": "yarn", "rope_theta": 50.0, "factor": 8.0, "mscale": 2.0, "mscale_all_dim": 1.0},
    {"rope_type": "yarn", "rope_theta": 50.0, "factor": 8.0, "mscale": 2.0},
    {"rope_type": "yarn", "rope_theta": 50.0, "factor": 0.5, "attention_factor": 0.7},
    {"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": 0.5},
    {"rope_type": "default", "rope_theta": 50.0, "factor": 3.0},
    {"full_attention": {"rope_type": "default", "rope_theta": 50.0}},
    {"full_attention": {"rope_theta": 50.0}, "sliding_attention": None},
    {"full_attention": {"rope_theta": 50.0}, "rope_theta": 20.0},
  ],
  "quantization_config": [{"quant_method": "fp8"}],
  "per_layer_config": [{"0": {"num_attention_heads": 2}}],
  "feed_forward_proj": ["gelu_new", "gated-relu", "gated-silu", "relu-gated", "gated"],
  "dense_act_fn": ["gelu_new", "gelu_pytorch_tanh"],
}
SPECIAL["rope_scaling"] = SPECIAL["rope_parameters"]


@pytest.fixture
def copy(pretrained, tmp_path):
  """name -> (the class in transformers, a copy of the model's folder)."""

  def make(name):
    model, path = pretrained(name)
    shutil.copytree(path, tmp_path / "model", symlinks=True)
    return type(model), tmp_path / "model"

  return make


@pytest.mark.parametrize("name", NAMES)
def test_the_list_of_keys_is_closed(name, copy, run_transformers, monkeypatch):
  """Every attribute that transformers reads of its configuration in a forward pass is known."""
  model_class, folder = copy(name)
  config_class, read = model_class.config_class, set()
  get = config_class.__getattribute__

  def record(self, key):
    read.add(key)
    return get(self, key)

  config = model_folder.open_folder(folder).correspondence.config
  with monkeypatch.context() as patched:
    patched.setattr(config_class, "__getattribute__", record)
    run_transformers(model_class.from_pretrained(folder).eval(), config)
  form = family_registry.keys_of(ConfigJson.read(folder))
  known = form.model_fields.keys() | form.OTHER_NAMES.keys() | HARMLESS
  of_files = {key for key in read if not key.startswith("_") and not callable_in(config_class, key)}
  assert of_files - known == set()


def callable_in(config_class, name):
  return callable(getattr(config_class, name, None))


@pytest.mark.parametrize(
  ("name", "changes"),
  [
    ("t5", {"dense_act_fn": "gelu"}),
    ("t5", {"scale_decoder_outputs": False}),
    ("gpt2", {"n_head": None, "num_attention_heads": 2}),
    ("llama", {"rope_scaling": {"rope_theta": 50.0}}),
    ("modernbert", {"rope_scaling": {"rope_theta": 50.0}, "sliding_window": 2}),
    ("qwen3_windows", {"layer_types": None, "max_window_layers": 2}),
    ("roberta", {"pad_token_id": 5}),  # Some of the tokens are 5.
  ],
)
def test_what_transformers_reads(name, changes, copy, change_settings, run_here, run_transformers):
  model_class, folder = copy(name)
  before = run_here(model_folder.open_folder(folder))
  absent = [key for key, value in changes.items() if value is None]
  change_settings(folder, *absent, **{k: x for k, x in changes.items() if k not in absent})
  opened = model_folder.open_folder(folder)
  found = run_here(opened)
  assert np.abs(found - before).max() > 1e-3
  wanted = load_and_run(model_class, folder, opened.correspondence.config, run_transformers)
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_defaults_are_those_of_transformers():
  transformers = pytest.importorskip("transformers")
  for name, family in family_registry.FAMILIES.items():
    defaults = transformers.AutoConfig.for_model(name)
    for key, field in family.KEYS[name].model_fields.items():
      if field.default is not None and hasattr(defaults, key):
        wanted = getattr(defaults, key)
        if name in ("qwen3", "qwen3_moe") and key == "sliding_window":
          wanted = 4096  # transformers sets it to None if use_sliding_window is False.
        if name != "modernbert" or key != "sliding_window":
          assert field.default == wanted, (name, key)


def test_windows_of_qwen3_that_the_file_does_not_list():
  values = {"model_type": "qwen3", "num_hidden_layers": 30, "use_sliding_window": True}
  fields = llama.from_config_json(ConfigJson(values), {})
  assert fields["attention_windows"] == (None,) * 28 + (4095,) * 2
  assert fields["head_dim"] == 128 and fields["num_kv_heads"] == 32


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_key_with_other_values(name, copy, run_here, run_transformers):
  """A key is refused, or both compute the same, or transformers itself fails."""
  model_class, folder = copy(name)
  file = folder / "config.json"
  values = json.loads(file.read_text())
  form = family_registry.keys_of(ConfigJson.read(folder))
  keys = values.keys() | form.model_fields.keys() | form.OTHER_NAMES.keys() | HARMLESS
  wrong, accepted = [], 0
  for key in sorted(keys - {"model_type", "architectures"}):
    used = key in form.model_fields or key in form.OTHER_NAMES
    generic = GENERIC if used else (True, 3, {"a": 1})
    for change in [*generic, *SPECIAL.get(key, []), *lists(key, values), "ABSENT"]:
      changed = {k: x for k, x in values.items() if k != key}
      changed |= {} if change == "ABSENT" else {key: change}
      file.write_text(json.dumps(changed))
      try:
        opened = model_folder.open_folder(folder)
      except UserError:
        continue
      config = opened.correspondence.config
      wanted = load_and_run(model_class, folder, config, run_transformers)
      if wanted is None:
        continue
      accepted += 1
      found = run_here(opened)
      error = np.abs(found - wanted).max()
      if not error < 1e-4 * max(1, np.abs(wanted).max()):
        wrong.append(f"{key} = {change!r}: {error}")
  assert not wrong, "\n".join(wrong)
  assert accepted > 50


def lists(key, values):
  """Values of layer_types: one per layer, or one too few."""
  if key != "layer_types":
    return []
  layers = next(
    values[k]
    for k in ("num_hidden_layers", "num_layers", "n_layer", "encoder_layers")
    if k in values
  )
  full, local = "full_attention", "sliding_attention"
  cycle = ([full, local] * layers)[:layers]
  return [[full] * layers, [local] * layers, cycle, cycle[1:], ["attention"] * layers]


def load_and_run(model_class, folder, config, run):
  """What transformers computes; None if it fails or the weights do not fit."""
  try:
    model, info = model_class.from_pretrained(folder, dtype="float32", output_loading_info=True)
    if any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")):
      return None
    return run(model.eval(), config)
  except Exception:
    return None
