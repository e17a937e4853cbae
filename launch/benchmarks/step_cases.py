"""The runs that launch.benchmark step measures: of gin files, or known shapes for this machine."""

import dataclasses
import functools
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax

from t5x_style.models import TransformerConfig
from t5x_style.span_lengths import lengths_for_inputs
from t5x_style.training import loss, optimizers, schedules, setup, synthetic, train_config

from ..configuration import reader
from ..process.errors import ConfigurationError

# Found but not imported: a machine with JAX only need not have TensorFlow.
_DATA_SPEC = importlib.util.find_spec("t5x_style.data")
assert _DATA_SPEC is not None
_DATA = _DATA_SPEC.name

NO_DROPOUT: Mapping[str, Any] = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}

LEARNING_RATE = 1e-4


class StepCase(NamedTuple):
  """A run on random batches, with a name.

  Attributes:
    lengths: tokens per row, as in TASK_FEATURE_LENGTHS.
  """

  name: str
  config: train_config.TrainConfig
  lengths: Mapping[str, int]

  @property
  def title(self) -> str:
    """The name and sizes, e.g. "BERT-base: 8 x 128 tokens, float32"."""
    model = self.config.model
    names = ["inputs"] if model.architecture == "encoder_only" else ["targets"]
    if model.architecture == "encoder_decoder":
      names = ["inputs", "targets"]
    tokens = " + ".join(f"{self.lengths[name]:,}" for name in names)
    tokens = f"({tokens})" if len(names) > 1 else tokens
    return f"{self.name}: {self.config.batch_size} x {tokens} tokens, {model.dtype}"


# Not a published model: Llama's layers in a size that a GPU trains beside its PyTorch peer.
DECODER_1B = TransformerConfig(
  vocab_size=32_768,
  emb_dim=2048,
  num_heads=16,
  head_dim=128,
  mlp_dim=5632,
  num_decoder_layers=20,
  mlp_activations=("silu", "linear"),
  positions="rotary",
  tie_embeddings=False,
  kernel_init_std=0.02,
  embedding_init_std=0.02,
  dtype="bfloat16",
)


def shipped_model(name: str, **changes: Any) -> TransformerConfig:
  """Returns the model of gin_configs/models/NAME.gin without dropout, with the given changes."""
  settings = reader.read([f"models/{name}.gin"], without=(_DATA,))
  return dataclasses.replace(settings.build(TransformerConfig), **NO_DROPOUT, **changes)


def t5_for_cpus() -> TransformerConfig:
  """Returns a T5 of 4+4 layers of width 512, with the shipped vocabulary."""
  return shipped_model(
    "t5_1_1/small",
    vocab_size=8_320,
    num_heads=8,
    num_encoder_layers=4,
    num_decoder_layers=4,
    tie_embeddings=True,
  )


def known(alone: bool) -> list[StepCase]:
  """Returns the cases whose figures are compared with the peers', for this machine's devices.

  Layers are unrolled: what a scan stacks for the backward pass costs a sixth of a step or more.

  Args:
    alone: whether no peer needs memory of the same accelerator, which then gets twice the rows.
  """
  if jax.default_backend() == "cpu":
    bert = shipped_model("bert/base", scan_layers=False)
    gpt2 = shipped_model("gpt2/small", scan_layers=False)
    t5 = dataclasses.replace(t5_for_cpus(), scan_layers=False)
    return [
      make("T5, 4+4 layers of 512", t5, 8, inputs=512, targets=114),
      make("BERT-base", bert, 8, inputs=128),
      make("GPT-2 small", gpt2, 2, targets=512),
    ]
  on_accelerators: dict[str, Any] = {"dtype": "bfloat16", "scan_layers": False}
  decoder = dataclasses.replace(DECODER_1B, **on_accelerators)
  t5 = shipped_model("t5_1_1/large", **on_accelerators)
  bert = shipped_model("bert/base", **on_accelerators)
  times = 2 if alone else 1
  return [
    make("decoder 1B", decoder, 8 * times, targets=2048),
    make("T5 1.1 large", t5, 32 * times, inputs=512, targets=114),
    make("BERT-base", bert, 256 * times, inputs=128),
  ]


def tiny() -> list[StepCase]:
  """Returns a tiny case of each architecture, with which the commands themselves are tried."""
  sizes: dict[str, Any] = {
    "vocab_size": 96,
    "emb_dim": 32,
    "num_heads": 4,
    "head_dim": 8,
    "mlp_dim": 48,
    "scan_layers": False,
    "dtype": "float32" if jax.default_backend() == "cpu" else "bfloat16",
  }
  decoder = dataclasses.replace(DECODER_1B, **sizes, num_decoder_layers=1)
  layers: dict[str, Any] = {"num_encoder_layers": 1, "num_decoder_layers": 1}
  t5 = dataclasses.replace(t5_for_cpus(), **sizes, **layers)
  bert = shipped_model("bert/base", **sizes, num_encoder_layers=1)
  return [
    make("decoder, tiny", decoder, 2, targets=16),
    make("T5, tiny", t5, 2, inputs=16, targets=8),
    make("BERT, tiny", bert, 2, inputs=16),
  ]


def requested(
  gin_files: Sequence[str],
  bindings: Sequence[str],
  search_paths: Sequence[str],
  alone: bool,
  small: bool = False,
) -> list[StepCase]:
  """Returns the run of the gin files; without any, the known cases.

  Args:
    alone: as for `known`.
    small: whether the known cases are the tiny ones.

  Raises:
    ConfigurationError: as for `from_gin`, or there are bindings and no file.
  """
  if gin_files:
    return [from_gin(gin_files, bindings, search_paths)]
  if bindings or search_paths:
    raise ConfigurationError(
      "Bindings belong to a gin file: add --gin_file=quickstart.gin, for example."
    )
  return tiny() if small else known(alone)


class _Named(Protocol):
  @property
  def name(self) -> str: ...


_Case = TypeVar("_Case", bound=_Named)


def named(cases: Sequence[_Case], name: str | None) -> list[_Case]:
  """Returns the cases whose names begin with `name`, in upper or lower case; None: all.

  Raises:
    ConfigurationError: there are none; the message has the names.
  """
  if name is None:
    return list(cases)
  found = [case for case in cases if case.name.lower().startswith(name.lower())]
  if not found:
    known_names = ", ".join(case.name for case in cases)
    raise ConfigurationError(f"--case={name!r} begins no name of a case: {known_names}.")
  return found


def from_gin(
  gin_files: Sequence[str], bindings: Sequence[str] = (), search_paths: Sequence[str] = ()
) -> StepCase:
  """Returns the run of gin files with random batches instead of its data, without TensorFlow.

  The batches have the lengths of TASK_FEATURE_LENGTHS. If these leave out the targets of an
  encoder-decoder, the targets have the length that T5's span corruption gives them.

  Raises:
    ConfigurationError: as for training, and if the files give no lengths.
  """
  settings = reader.read(gin_files, bindings, search_paths, without=(_DATA,))
  lengths = settings.macro("TASK_FEATURE_LENGTHS")
  if not isinstance(lengths, dict):
    raise ConfigurationError(
      f"TASK_FEATURE_LENGTHS = {lengths!r}: random batches need the tokens of a row; set "
      "--gin.TASK_FEATURE_LENGTHS=\"{'inputs': 512, 'targets': 114}\"."
    )
  config = settings.build(train_config.TrainConfig)
  lengths = _complete(lengths, config.model.architecture)
  name = " ".join(part.removesuffix(".gin") for part in gin_files)
  config = dataclasses.replace(
    config, dataset=_random(config.model, lengths), initial_checkpoint_path=None
  )
  return StepCase(name, config, lengths)


def make(name: str, model: TransformerConfig, rows: int, **lengths: int) -> StepCase:
  """Returns the training of a model as the notes measure it: AdamW, gradients clipped at 1.

  Args:
    rows: of a batch.
    lengths: tokens per row, as in TASK_FEATURE_LENGTHS.
  """
  config = train_config.TrainConfig(
    model=model,
    dataset=_random(model, lengths),
    optimizer=optimizers.adamw,
    schedule=schedules.constant(LEARNING_RATE),
    model_dir="unused",
    train_steps=1,
    batch_size=rows,
    clip_gradient_norm=1.0,
  )
  return StepCase(name, config, lengths)


def _random(model: TransformerConfig, lengths: Mapping[str, int]) -> Any:
  return functools.partial(synthetic.load, feature_lengths=lengths, vocab_size=model.vocab_size)


def with_attention(case: StepCase, kernel: Any) -> StepCase:
  """Returns the case with a requested attention kernel, as ATTENTION names them."""
  model = dataclasses.replace(case.config.model, attention=kernel)
  return case._replace(config=dataclasses.replace(case.config, model=model))


def comparable(case: StepCase) -> StepCase:
  """Returns the case with what both sides of a comparison have.

  That is AdamW at a constant rate, plain cross-entropy, no dropout and one microbatch.
  """
  config = dataclasses.replace(
    case.config,
    model=dataclasses.replace(case.config.model, **NO_DROPOUT),
    optimizer=optimizers.adamw,
    schedule=schedules.constant(LEARNING_RATE),
    loss=loss.LossOptions(),
    num_microbatches=1,
  )
  return case._replace(config=config)


def prepare(case: StepCase) -> setup.Prepared:
  """Builds and checks the run. Nothing is written to its MODEL_DIR."""
  with tempfile.TemporaryDirectory() as folder:
    return setup.prepare(dataclasses.replace(case.config, model_dir=folder))


def _complete(lengths: Mapping[str, int], architecture: str) -> dict[str, int]:
  """Adds the length of the targets by T5's span corruption: 15 % of the tokens in spans of 3."""
  inputs = lengths.get("inputs")
  if architecture != "encoder_decoder" or not inputs or "targets" in lengths:
    return dict(lengths)
  return {**lengths, "targets": lengths_for_inputs(inputs, 0.15, 3.0).targets}
