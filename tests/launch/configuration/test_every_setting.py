"""Every parameter that gin can bind, with every kind of wrong value: it is refused with one clear
message, or the run can be built; there is never a traceback."""

import importlib
import inspect
import json
import re
import warnings

import pytest

from launch.configuration import gin_files, gin_references, gin_types, reader
from launch.process import errors
from launch.process.errors import ConfigurationError
from t5x_style.training import train_config
from tests import shipped

VALUES = [
  *("'x'", "''", "-1", "0", "2.5", "-0.0", "1e999", "-1e999", "1" + "0" * 30, "True", "None"),
  *("[]", "()", "{}", "(1,)", "['x', 2.5]", "{'x': 1}", "{1: 'x'}", "%BATCH_SIZE", "b'x'", "1j"),
  *("@config.TransformerConfig", "@config.TransformerConfig()", "@optimizers.adamw"),
  *("@schedules.constant", "@schedules.constant()", "@loss.LossOptions()"),
]
SMALL = """
from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.models import experts
from t5x_style.training import loss
from t5x_style.training import optimizers
from t5x_style.training import schedules
from t5x_style.training import synthetic
from t5x_style.training import train_config
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
train_config.TrainConfig.dataset = @synthetic.load
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
# {what is bound: what a run needs to use it}
PLAIN = {
  "config.TransformerConfig": "",
  "config.RotaryScaling": "config.RotaryScaling.factor = 2.0\n"
  "config.TransformerConfig.rotary_scaling = @config.RotaryScaling()\n"
  "config.TransformerConfig.positions = 'rotary'\n",
  "experts.Experts": "experts.Experts.num_experts = 4\n"
  "config.TransformerConfig.experts = @experts.Experts()\n",
  "sizing.Budget": "",
  "train_config.TrainConfig": "",
  "loss.LossOptions": "",
  "synthetic.load": "",
  **{f"optimizers.{name}": f"OPTIMIZER = @optimizers.{name}\n" for name in shipped.OPTIMIZERS},
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
from t5x_style.data.tokenizers import vocabularies
CORPUS = @corpora.TextFiles()
corpora.TextFiles.pattern = {text!r}
corpora.Jsonl.pattern = {jsonl!r}
corpora.Jsonl.cache_dir = {cache!r}
corpora.PythonStdlib.cache_dir = {cache!r}
VOCABULARY = @vocabularies.sentencepiece()
OBJECTIVE = @{objective}()
TASK_FEATURE_LENGTHS = {{"inputs": 32, "targets": 32}}
"""
# {objective: the architecture that it is tried with, decoder-only where it can be}
OBJECTIVES = {
  f"{one.__module__.split('.')[-1]}.{one.__name__}": one.architectures[0]
  if isinstance(one.architectures, tuple) and "decoder_only" not in one.architectures
  else "decoder_only"
  for one in shipped.objectives()
}
SUPERVISED = ("classification.Classification", "text_to_text.TextToText")
OTHER_DATA = {
  "loader.load": "",
  "corpora.TextFiles": "",
  "corpora.Jsonl": "CORPUS = @corpora.Jsonl()\n",
  "corpora.Records": "CORPUS = @corpora.Records()\ncorpora.Records.pattern = 'a.jsonl'\n",
  "corpora.Mixture": "CORPUS = @corpora.Mixture()\n"
  "corpora.Mixture.corpora = {'texts': @corpora.TextFiles()}\n",
  "corpora.PythonStdlib": "CORPUS = @corpora.PythonStdlib()\n",
  "corpora.StdlibFunctions": "CORPUS = @corpora.StdlibFunctions()\n",
  "corpora.StdlibPackages": "CORPUS = @corpora.StdlibPackages()\n",
  "corpora.Tfds": "CORPUS = @corpora.Tfds()\ncorpora.Tfds.dataset = 'wiki'\n",
  "corpora.TokenCache": "CORPUS = @corpora.TokenCache()\ncorpora.TokenCache.folder = 'cache'\n",
  "vocabularies.sentencepiece": "",
  "vocabularies.byte_vocabulary": "VOCABULARY = @vocabularies.byte_vocabulary()\n"
  "vocabularies.byte_vocabulary.extra_ids = 125\nVOCAB_SIZE = 384\n",
  "huggingface_tokenizers.hf_tokenizer": "from t5x_style.data.tokenizers import "
  "huggingface_tokenizers\n"
  "VOCABULARY = @huggingface_tokenizers.hf_tokenizer()\n"
  "huggingface_tokenizers.hf_tokenizer.path = '/nowhere'\n",
}


ROOMS = {
  "planning": ("sizing",),
  "models": ("config", "experts"),
  "training": ("loss", "optimizers", "schedules", "synthetic", "train_config"),
  "data.objectives": tuple(name.split(".")[0] for name in OBJECTIVES),
  "data.tokenizers": ("huggingface_tokenizers", "vocabularies"),
}
EVERY = [*PLAIN, *OTHER_DATA, *OBJECTIVES]
# Parameters that a caller passes: gin can bind them too, but no run uses these bindings.
GIVEN = {
  "architecture", "batch_size", "seed", "process_index", "process_count", "learning_rate",
}  # fmt: skip


def target(name):
  module, attribute = name.split(".")
  room = next((room for room, modules in ROOMS.items() if module in modules), "data")
  return getattr(importlib.import_module(f"t5x_style.{room}.{module}"), attribute)


def parameters(name):
  """Returns {name: default} of the parameters that gin may bind."""
  own = inspect.signature(target(name)).parameters
  skipped = set() if inspect.isclass(target(name)) else GIVEN
  return {key: p.default for key, p in own.items() if key not in skipped}


@pytest.fixture
def write_run(tmp_path, monkeypatch):
  """Writes a gin file of a small run that uses the function or class of a name."""
  monkeypatch.chdir(tmp_path)  # A relative path such as 'x' is in this folder.
  text = "One sentence. Another one, and a third! Is {} a number? Yes, {} is.\n\n"
  for i in range(40):
    lines = [text.format(n, n + i) for n in range(20 * i, 20 * i + 20)]
    (tmp_path / f"{i}.txt").write_text("".join(lines))
  (tmp_path / "a.jsonl").write_text(
    "".join(
      json.dumps({"text": text.format(i, i) * 9, "even": i % 2 == 0}) + "\n" for i in range(99)
    )
  )

  def write(name):
    objective = name if name in OBJECTIVES else "causal_lm.CausalLM"
    layers = LAYERS[OBJECTIVES[objective]]
    content = SMALL.format(model_dir=str(tmp_path / "run")) + layers
    if name in PLAIN:
      content += SYNTHETIC + PLAIN[name]
    else:
      content += f"from t5x_style.data.objectives import {objective.split('.')[0]}\n" + DATA.format(
        text=str(tmp_path / "*.txt"),
        jsonl=str(tmp_path / "a.jsonl"),
        cache=str(tmp_path / "cache"),
        objective=objective,
      )
      content += OTHER_DATA.get(name, "")
    if name in SUPERVISED:
      content += OTHER_DATA["corpora.Jsonl"] + "corpora.Jsonl.target_field = 'even'\n"
    if name == "mixture.Mixture":
      parts = "@causal_lm.CausalLM(), @causal_lm.CausalLM()"
      content += (
        f"from t5x_style.data.objectives import causal_lm\nmixture.Mixture.objectives = [{parts}]\n"
      )
    (tmp_path / "small.gin").write_text(content)
    return "small.gin"

  return write


def build(gin_file, *bindings):
  """Builds what a dry run builds; returns the error message, or None."""
  from t5x_style.checkpoints import model_dir, restoring
  from t5x_style.reporting import run_description
  from t5x_style.training import setup

  try:
    with errors.as_configuration_errors(), warnings.catch_warnings():
      warnings.simplefilter("ignore")
      config = reader.read([gin_file], bindings).build(train_config.TrainConfig)
      model_dir.check(config.model_dir)
      prepared = setup.prepare(config)
      run_description.model_info(prepared)
      run_description.facts(prepared)
      restoring.check_start(prepared)
  except ConfigurationError as error:
    return str(error)
  return None


def misfit(default, value):
  """Returns whether a value has another type than a default that is a plain value."""
  alike = {
    bool: r"True",
    int: r"-?\d+|%BATCH_SIZE",
    float: r"-?[\d.]+|%BATCH_SIZE",
    str: r"'.*'",
  }.get(type(default))
  return alike is not None and not re.fullmatch(alike, value)


@pytest.mark.parametrize("name", PLAIN)
def test_what_gin_binds_is_annotated(name):
  check_annotations(name)


@pytest.mark.slow  # TensorFlow
@pytest.mark.parametrize("name", [*OTHER_DATA, *OBJECTIVES])
def test_what_gin_binds_of_the_data_is_annotated(name):
  check_annotations(name)


def check_annotations(name):
  """Without an annotation that can be resolved, a value would not be checked."""
  annotations = gin_references.annotations(target(name))
  for parameter, default in parameters(name).items():
    annotation = annotations[parameter]
    assert gin_types.problems(annotation, object()), f"{name}.{parameter} takes anything"
    if isinstance(default, int | float | str | tuple | None):
      assert not gin_types.problems(annotation, default), f"{name}.{parameter} = {default!r}"


def test_every_name_of_the_shipped_gin_files_is_tried():
  bound = re.compile(r"^(\w+\.\w+)(?:\.\w+ = |:$)|@(\w+\.\w+)", re.MULTILINE)
  for path in gin_files.SHIPPED.rglob("*.gin"):
    names = {a or b for a, b in bound.findall(path.read_text())}
    names -= {"settings.Comparison"}  # It is launch.compare's; no run reads it.
    assert names <= {*EVERY}, f"{path} binds what PLAIN and OTHER_DATA of this test do not list"


def test_values_of_another_type_are_refused(write_run):
  """Every parameter gets one of the wrong values; the slow test tries all of them."""
  tried = 0
  for name in PLAIN:
    gin_file = write_run(name)
    for i, (parameter, default) in list(enumerate(parameters(name).items()))[::4]:
      wrong = [value for value in VALUES if misfit(default, value)]
      if not wrong:
        continue
      tried += 1
      binding = f"{name}.{parameter}={wrong[i % len(wrong)]}"
      with pytest.raises(ConfigurationError) as caught:
        reader.read([gin_file], [binding])
      assert str(caught.value).endswith(f"\n  command line: --gin.{binding}"), binding
  assert tried > 15


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_value_is_refused_or_gives_a_run(name, write_run):
  """Thirty values for each parameter. Any other error fails the test."""
  gin_file = write_run(name)
  # Nothing to open here.
  absent = ("corpora.Tfds", "corpora.TokenCache", "huggingface_tokenizers.hf_tokenizer")
  if name not in absent:
    assert build(gin_file) is None
  for parameter, default in parameters(name).items():
    for value in VALUES:
      wrong = build(gin_file, f"{name}.{parameter}={value}")
      assert wrong is None or len(wrong) > 20, (parameter, value)
      if misfit(default, value) and value != "None":
        assert wrong, f"{name}.{parameter} = {value} was accepted"
        assert "--gin." in wrong, (parameter, value)
