"""Every shipped gin file is read and built, so that none of gin_configs/ becomes outdated."""

import dataclasses
import functools
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.configuration import reader
from t5x_style.data.objectives.ul2 import UL2
from t5x_style.models import RotaryScaling, TransformerConfig
from t5x_style.training import optimizers, schedules, setup, synthetic, train_config
from tests.shipped import OPTIMIZERS, peak_learning_rate

FOLDER = Path(__file__).parents[1] / "gin_configs"
MODELS = {
  "encoder_decoder": "models/encoder_decoder_mini.gin",
  "decoder_only": "models/decoder_only_mini.gin",
  "encoder_only": "models/encoder_only_mini.gin",
}
COMPARISONS = ("compare.gin",)  # tests/launch/comparison/test_gin_settings.py reads them
SLOW = (
  "finetune_function_names.gin",  # finetune_python_stdlib.gin always runs
  *("two_corpora.gin", "three_phases.gin"),
  *("ul2.gin", "ul2_short.gin", "ul2_r40_s20_x40.gin", "ul2r.gin", "u_palm.gin"),
  *("roberta.gin", "whole_word_masking.gin", "modernbert.gin"),  # masked_lm.gin always runs
  *("sentence_order.gin", "multi_task.gin"),  # next_sentence.gin always runs
  *(
    "prefix_lm.gin",
    "fill_in_middle.gin",
    "text_infilling.gin",
  ),  # others of their models always run
)


def files(pattern):
  """The names of gin files; those of SLOW are marked so."""
  return [
    pytest.param(path.name, marks=[pytest.mark.slow] if path.name in SLOW else [])
    for path in sorted(FOLDER.glob(pattern))
    if path.name not in COMPARISONS
  ]


RUNS, OBJECTIVES = files("*.gin"), files("objectives/*.gin")
FAMILIES = sorted(
  str(path.relative_to(FOLDER))
  for path in (FOLDER / "models").glob("*/*.gin")
  if path.name != "family.gin"
)
LARGEST = [
  f"models/{name}.gin" for name in ("t5_1_1/xxl", "llama3/70b", "modernbert/large", "albert/base")
]


def prepare(gin_files, model_dir, *bindings):
  # Without shuffling the first batch comes sooner.
  given = [f"MODEL_DIR = '{model_dir}'", "SHUFFLE_BUFFER_SIZE = 1", *bindings]
  config = reader.read(gin_files, given)
  return setup.prepare(config.build(train_config.TrainConfig))


@pytest.mark.parametrize("name", RUNS)
def test_runs(name, tmp_path):
  prepared = prepare([name], tmp_path)
  batch = next(prepared.dataset.train())
  assert {k: v.shape for k, v in batch.items()} == {
    k: x.shape for k, x in prepared.dataset.feature_shapes.items()
  }
  assert "model_dirs/" in (FOLDER / name).read_text()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_feed_a_model_they_name(name, tmp_path):
  """The first line of an objective's file names architectures; it works with the first of them."""
  first_line = (FOLDER / "objectives" / name).read_text().splitlines()[0]
  fitting = sorted((a for a in MODELS if a in first_line), key=first_line.index)
  assert fitting, f"{name} does not say which models it is for"
  supervised = name in ("classification.gin", "text_to_text.gin")
  corpus = "data/stdlib_packages.gin" if supervised else "data/python_stdlib.gin"
  files = ["runs/quickstart.gin", MODELS[fitting[0]], corpus, f"objectives/{name}"]
  classes = ["NUM_CLASSES = 10"] * (name == "classification.gin")
  prepared = prepare(files, tmp_path, *classes)
  batch = next(prepared.dataset.train())
  weights = batch[f"{prepared.loss.side}_loss_weights"]
  assert 0 < (weights > 0).mean() <= 1


@pytest.mark.parametrize("name", FAMILIES)
def test_models_of_known_families_combine_with_runs_data_and_objectives(name, tmp_path):
  """A model file combines with other files, and has the macros of every model."""
  given = ["DTYPE = 'bfloat16'", "REMAT = 'full'", f"MODEL_DIR = '{tmp_path}'"]
  fitting = {"encoder_decoder": "span_corruption", "encoder_only": "masked_lm"}
  architecture = reader.read([name]).build(TransformerConfig).architecture
  objective = f"objectives/{fitting.get(architecture, 'causal_lm')}.gin"
  recipe = "runs/t5.gin" if architecture == "encoder_decoder" else "runs/pretrain.gin"
  config = reader.read([recipe, name, "data/python_stdlib.gin", objective], given).build(
    train_config.TrainConfig
  )
  assert (config.model.dtype, config.model.remat) == ("bfloat16", "full")
  if name in LARGEST:
    lengths = {"inputs": 512, "targets": 114}
    dataset = functools.partial(
      synthetic.load, feature_lengths=lengths, vocab_size=config.model.vocab_size
    )
    prepared = setup.prepare(dataclasses.replace(config, dataset=dataset))
    assert prepared.num_parameters > 1e7


@pytest.mark.parametrize(
  ("name", "start"),
  [("encoder", "decoder"), ("encoder_decoder", "decoder"), ("encoder_decoder", "encoder")],
)
def test_models_that_start_from_another_architecture(name, start):
  """Only the numbers of layers differ between a model and the one that it starts from."""
  read = lambda *files: reader.read([f"adaptation/{file}.gin" for file in files])
  begun = read(start).build(TransformerConfig)
  run = read(name, f"from_{start}").build(train_config.TrainConfig)
  assert run.initial_checkpoint_adapt == "interpolate"
  layers = ("num_encoder_layers", "num_decoder_layers")
  assert begun.architecture != run.model.architecture
  same = {field: getattr(run.model, field) for field in layers}
  assert dataclasses.replace(begun, **same) == run.model


# Rates after no step, after 100 of warm-up and after all 10,000, with a peak of 0.001.
SCHEDULES = {
  "constant": (0.0, 0.001, 0.001),
  "cosine": (0.0, 0.001, 0.0001),
  "linear": (0.0, 0.001, 0.0),
  "rsqrt": (0.1, 0.1, 0.01),
  "wsd": (0.0, 0.001, 0.0),
}


def with_recipe(recipe, *bindings):
  """Returns the configuration of a run that includes a file of optimizers/ or schedules/."""
  files = ["runs/pretrain.gin", MODELS["decoder_only"], recipe]
  given = ["MODEL_DIR = '/nowhere'", *bindings]
  return reader.read(files, given).build(train_config.TrainConfig)


def test_every_optimizer_and_schedule_has_a_recipe():
  public = lambda module, first: {
    name
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and next(iter(parameters(function)), "") in first
  }
  parameters = lambda function: inspect.signature(function).parameters
  assert {path.stem for path in (FOLDER / "runs" / "schedules").glob("*.gin")} == set(SCHEDULES), (
    "SCHEDULES of this test has the rates of each gin file: add the new one"
  )
  for module, first in ((optimizers, {"learning_rate"}), (schedules, {"peak", "base"})):
    kind = module.__name__.split(".")[-1]
    folder = FOLDER / "runs" / kind
    names = public(module, first)
    assert {path.stem for path in folder.glob("*.gin")} == names, (
      f"each function of {kind}.py has a file of its name in gin_configs/runs/{kind}/"
    )
    for name in names:
      written = set(re.findall(r"^  (\w+) = ", (folder / f"{name}.gin").read_text(), re.MULTILINE))
      assert written == set(parameters(getattr(module, name))) - {"learning_rate"}, (
        f"{kind}/{name}.gin binds each parameter of {name}, with its default and a comment"
      )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_recipes_of_optimizers(name):
  """A file writes out the defaults of its optimizer, so it changes none of them."""
  config = with_recipe(f"runs/optimizers/{name}.gin", "WARMUP_STEPS = 0")
  assert config.schedule(0) == pytest.approx(peak_learning_rate(name))
  params = {"decoder": {"layers_0": {"mlp": {"wi": {"kernel": jnp.ones((128, 256))}}}}}
  grads = jax.tree.map(
    lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape), params
  )
  moved = [
    optimizer.update(grads, optimizer.init(params), params)[0]
    for optimizer in (f(config.schedule) for f in (config.optimizer, getattr(optimizers, name)))
  ]
  jax.tree.map(np.testing.assert_array_equal, *moved)


@pytest.mark.parametrize("name", SCHEDULES)
def test_recipes_of_schedules(name):
  schedule = with_recipe(f"runs/schedules/{name}.gin", "WARMUP_STEPS = 100").schedule
  rates = [float(schedule(jnp.int32(step))) for step in (0, 100, 10_000)]
  assert rates == pytest.approx(SCHEDULES[name])


def test_every_field_of_a_run_has_its_line():
  written = (FOLDER / "runs/pretrain.gin").read_text().partition("TrainConfig:\n")[2]
  fields = {field.name for field in dataclasses.fields(train_config.TrainConfig)}
  assert set(re.findall(r"^  (\w+) = ", written, re.MULTILINE)) == fields


def test_objective_that_does_not_fit_is_refused_with_those_that_do(tmp_path):
  files = ["runs/quickstart.gin", MODELS["encoder_only"], "data/python_stdlib.gin"]
  with pytest.raises(ValueError, match="MODEL is encoder_only") as error:
    prepare([*files, "objectives/span_corruption.gin"], tmp_path)
  assert "masked_lm" in str(error.value)


# The first training of runs that continue it.
FIRST = "quickstart_causal_lm.gin"
CONTINUED = ("TRAINED_MODEL_DIR = '/first'",)


def test_a_run_continues_on_another_corpus(tmp_path):
  for name in "new", "old":
    for i in range(2):
      (tmp_path / f"{name}{i}.txt").write_text(f"{name} text {i}. " * 200)
  files = [FIRST, "runs/continue.gin", "data/text_files.gin"]
  given = [
    *CONTINUED,
    f"CORPUS_FILES = '{tmp_path}/new*.txt'",
    "OLD_CORPUS = @replay/corpora.TextFiles()",
    f"replay/corpora.TextFiles.pattern = '{tmp_path}/old*.txt'",
    "REPLAY_SHARE = 0.25",
  ]
  prepared = prepare(files, tmp_path, *given)
  assert prepared.config.initial_checkpoint_path == "/first"
  assert prepared.dataset.description == "text_files and 25% text_files, causal_lm"
  texts = [
    prepared.dataset.decode(batch["decoder_target_tokens"][0])
    for batch in prepared.dataset.evaluation(1)
  ]
  assert ["new text" in text for text in texts] == [True, False]
  assert ["old text" in text for text in texts] == [False, True]
  assert float(prepared.config.schedule(0)) == 0.0
  with pytest.raises(ValueError, match="TRAINED_MODEL_DIR is not set"):
    reader.read(files, given[1:]).build(train_config.TrainConfig)
  with pytest.raises(ValueError, match="OLD_CORPUS is not set"):
    reader.read(files, given[:2]).build(train_config.TrainConfig)
  with pytest.raises(ValueError, match="replay_share = 1.0|REPLAY_SHARE = 1.0"):
    reader.read(files, [*given[:-1], "REPLAY_SHARE = 1.0"]).build(train_config.TrainConfig)


@pytest.mark.parametrize(
  ("given", "scaling"),
  [
    ([], RotaryScaling(factor=4.0, original_length=128, kind="yarn")),
    (
      ["CONTEXT_FACTOR = 2.0", "ROTARY_SCALING = 'linear'"],
      RotaryScaling(factor=2.0, high=32.0, original_length=128, kind="linear"),
    ),
  ],
)
def test_a_run_continues_with_longer_rows(given, scaling):
  given = [*CONTINUED, "ORIGINAL_LENGTH = 128", *given]
  read = reader.read([FIRST, "runs/context_extension.gin"], given)
  assert read.build(train_config.TrainConfig).model.rotary_scaling == scaling
  other = ["quickstart.gin", MODELS["encoder_decoder"], "runs/context_extension.gin"]
  read = reader.read(other, given)
  with pytest.raises(ValueError, match="rotary_scaling is set, but positions = 'relative'"):
    read.build(train_config.TrainConfig)


def test_a_run_continues_with_ul2r():
  files = ["quickstart.gin", "runs/ul2r.gin"]
  read = reader.read(files, CONTINUED)
  assert read.build(train_config.TrainConfig).initial_checkpoint_path == "/first"
  parts = read.build(UL2).components()
  assert [name for name, _, _ in parts] == ["R_3_15", "S", "X_32_15", "X_3_50"]


def test_every_file_begins_with_what_it_is():
  files = {str(path.relative_to(FOLDER)): path.read_text() for path in FOLDER.rglob("*.gin")}
  assert [name for name, text in files.items() if not text.startswith("# ")] == []
  assert [name for name, text in files.items() if max(map(len, text.splitlines())) > 120] == []


def test_mode_tokens_of_ul2_have_one_order():
  """All files list them as R, S, X: either with these names or with those of UL2 20B."""
  pattern = r"\(\"\[[A-Z0-9]+\]\", \"\[[A-Z0-9]+\]\", \"\[[A-Z0-9]+\]\"\)"
  known = re.findall(pattern, (FOLDER / "objectives" / "ul2.gin").read_text())
  assert known == ['("[R]", "[S]", "[X]")', '("[NLU]", "[S2S]", "[NLG]")']
  found = {
    (path.stem, modes)
    for path in FOLDER.rglob("*.gin")
    for modes in re.findall(rf"modes = ({pattern})", path.read_text())
  }
  assert {name for name, _ in found} >= {"ul2", "ul2_short", "ul2_20b_v5p_4x4x8"}
  assert {modes for _, modes in found} <= set(known), found


def test_bytes_replace_a_vocabulary_file(tmp_path):
  files = ["runs/quickstart.gin", MODELS["encoder_decoder"], "data/python_stdlib.gin"]
  files += ["data/bytes.gin", "objectives/span_corruption.gin"]
  prepared = prepare(files, tmp_path, "VOCAB_SIZE = 384")
  assert prepared.dataset.vocab_size == 384
  tokens = next(prepared.dataset.train())["encoder_input_tokens"]
  assert tokens.max() == 383  # the first sentinel
  assert len(prepared.dataset.decode(tokens[0])) > 100


def test_a_hugging_face_tokenizer_replaces_a_vocabulary_file(tmp_path):
  tokenizers = pytest.importorskip("tokenizers")
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
  trainer = tokenizers.trainers.BpeTrainer(
    special_tokens=["<|endoftext|>"],
    initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(["a text"], trainer)
  tokenizer.save(str(tmp_path / "tokenizer.json"))
  size = tokenizer.get_vocab_size()
  files = ["runs/quickstart.gin", MODELS["decoder_only"], "data/python_stdlib.gin"]
  files += ["data/hf_tokenizer.gin", "objectives/causal_lm.gin"]
  bindings = (f"VOCABULARY_FILE = '{tmp_path}'", f"VOCAB_SIZE = {size}")
  prepared = prepare(files, tmp_path / "run", *bindings)
  assert prepared.dataset.vocab_size == size
  batch = next(prepared.dataset.train())
  assert batch["decoder_input_tokens"][0, 0] == 0 == batch["decoder_segment_ids"].min() - 1
  assert "\n" in prepared.dataset.decode(batch["decoder_target_tokens"][0])
