"""Every parameter that gin can bind, with every kind of wrong value: refused in one clear message,
or a run that can be built. Never a traceback."""

import inspect
import re
import warnings
from typing import Any

from launch import configuration, mistakes
from launch.mistakes import ConfigurationError

VALUES = [
  *("'x'", "''", "-1", "0", "2.5", "-0.0", "1e999", "-1e999", "1" + "0" * 30, "True", "None"),
  *("[]", "()", "{}", "(1,)", "['x', 2.5]", "{'x': 1}", "{1: 'x'}", "%BATCH_SIZE", "b'x'", "1j"),
  *("@config.TransformerConfig", "@config.TransformerConfig()", "@optimizers.adamw"),
  *("@schedules.constant", "@schedules.constant()", "@step.LossOptions()"),
]
SMALL = """
from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.training import optimizers
from t5x_style.training import run
from t5x_style.training import schedules
from t5x_style.training import step
from t5x_style.training import synthetic
include 'runs/pretrain.gin'
include 'models/base.gin'
MODEL_DIR = {model_dir!r}
BATCH_SIZE = 4
VOCAB_SIZE = 8320
config.TransformerConfig:
  emb_dim = 8
  num_heads = 2
  head_dim = 4
  mlp_dim = 8
schedules.constant.peak = 0.1
"""
SYNTHETIC = """
run.Run.dataset = @synthetic.load
synthetic.load.feature_lengths = {'inputs': 16, 'targets': 16}
synthetic.load.vocab_size = %VOCAB_SIZE
"""
LAYERS = {
  "decoder_only": "config.TransformerConfig.num_decoder_layers = 2\n",
  "encoder_only": "config.TransformerConfig.num_encoder_layers = 2\n"
  "config.TransformerConfig.pooled_classes = 2\nconfig.TransformerConfig.num_token_types = 2\n",
  "encoder_decoder": "config.TransformerConfig.num_decoder_layers = 1\n"
  "config.TransformerConfig.num_encoder_layers = 1\n",
}
# What is bound, and what a run needs to use it.
PLAIN = {
  "config.TransformerConfig": "",
  "config.RotaryScaling": "config.RotaryScaling.factor = 2.0\n"
  "config.TransformerConfig.rotary_scaling = @config.RotaryScaling()\n"
  "config.TransformerConfig.positions = 'rotary'\n",
  "run.Run": "",
  "step.LossOptions": "",
  "synthetic.load": "",
  **{
    f"optimizers.{name}": f"OPTIMIZER = @optimizers.{name}\n"
    for name in ("adafactor", "adamw", "lion", "muon")
  },
  **{
    f"schedules.{name}": f"SCHEDULE = @schedules.{name}()\nschedules.{name}.peak = 0.1\n"
    f"schedules.{name}.total_steps = 10\n"
    for name in ("linear", "cosine", "wsd")
  },
  "schedules.constant": "SCHEDULE = @schedules.constant()\n",
  "schedules.rsqrt": "SCHEDULE = @schedules.rsqrt()\n",
}


DATA = """
from t5x_style.data import corpora
from t5x_style.data import loader
from t5x_style.data import vocabularies
CORPUS = @corpora.TextFiles()
corpora.TextFiles.pattern = {text!r}
corpora.Jsonl.pattern = {jsonl!r}
corpora.Jsonl.cache_dir = {cache!r}
corpora.PythonStdlib.cache_dir = {cache!r}
VOCABULARY = @vocabularies.sentencepiece()
OBJECTIVE = @{objective}()
TASK_FEATURE_LENGTHS = {{"inputs": 32, "targets": 32}}
"""
# Objectives, and the model and features that each is tried with.
OBJECTIVES = {
  "causal_lm.CausalLM": "decoder_only",
  "prefix_lm.PrefixLM": "decoder_only",
  "fill_in_middle.FillInMiddle": "decoder_only",
  "span_corruption.SpanCorruption": "decoder_only",
  "ul2.UL2": "decoder_only",
  "ul2.UL2Short": "decoder_only",
  "mixture.Mixture": "decoder_only",
  "text_infilling.TextInfilling": "encoder_decoder",
  "masked_lm.MaskedLM": "encoder_only",
  "masked_diffusion.MaskedDiffusion": "encoder_only",
  "sentence_pairs.NextSentence": "encoder_only",
  "sentence_pairs.SentenceOrder": "encoder_only",
}
OTHER_DATA = {
  "loader.load": "",
  "corpora.TextFiles": "",
  "corpora.Jsonl": "CORPUS = @corpora.Jsonl()\n",
  "corpora.PythonStdlib": "CORPUS = @corpora.PythonStdlib()\n",
  "corpora.Tfds": "CORPUS = @corpora.Tfds()\ncorpora.Tfds.dataset = 'wiki'\n",
  "vocabularies.sentencepiece": "",
  "vocabularies.byte_vocabulary": "VOCABULARY = @vocabularies.byte_vocabulary()\n"
  "vocabularies.byte_vocabulary.extra_ids = 125\nVOCAB_SIZE = 384\n",
  "huggingface_tokenizers.hf_tokenizer": "from t5x_style.data import huggingface_tokenizers\n"
  "VOCABULARY = @huggingface_tokenizers.hf_tokenizer()\n"
  "huggingface_tokenizers.hf_tokenizer.path = '/nowhere'\n",
}


def target(name):
  module, attribute = name.split(".")
  rooms = {"config": "models", "optimizers": "training", "schedules": "training", "run": "training"}
  package = (rooms | {"step": "training", "synthetic": "training"}).get(module, "data")
  return getattr(__import__(f"t5x_style.{package}.{module}", fromlist=[attribute]), attribute)


def parameters(function):
  """{name: default} of what gin may bind."""
  given = ("architecture", "batch_size", "seed", "process_index", "process_count", "learning_rate")
  own = inspect.signature(function).parameters
  skipped = given if not inspect.isclass(function) else ()
  return {name: p.default for name, p in own.items() if name not in skipped}


def build(gin_file, bindings):
  """What a dry run builds; None, or what is wrong."""
  from t5x_style.training import report, run, train

  try:
    with mistakes.setup(), warnings.catch_warnings():
      warnings.simplefilter("ignore")
      config = configuration.read([str(gin_file)], bindings)
      prepared = run.prepare(config.build(run.Run))
      report.model_info(prepared)
      report.facts(prepared)
      train.check_start(prepared)
  except ConfigurationError as error:
    return str(error)
  return None


def misfit(default: Any, value: str) -> bool:
  """Whether the value is of another type than a default that is a plain value."""
  kind = {
    bool: r"True",
    int: r"-?\d+|%BATCH_SIZE",
    float: r"-?[\d.]+|%BATCH_SIZE",
    str: r"'.*'",
  }.get(type(default))
  return kind is not None and not re.fullmatch(kind, value) and value != "None"
