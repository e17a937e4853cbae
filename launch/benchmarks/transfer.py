"""The best learning rate of three widths, with BASE_EMB_DIM and without, for three objectives.

Small models are trained on the bytes of Python's standard library, once for each learning rate, a
power of two. The search begins at the best rate of the narrowest model and ends when both
neighbours of the best are worse; between them a parabola through the three losses gives the rate.

Every finished run is a line of the file --records, and is not run again. --gin_file and --gin
change all runs: the text, or --gin.TRAIN_STEPS=100.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..configuration import reader

FLAGS = ("gin_file", "gin_bindings", "gin_search_paths", "records")
RECORDS = "model_dirs/transfer.jsonl"
COLUMNS = {
  "best_rate": ("best rate", ".2e"),
  "moved": ("moved by", ".2f"),
  "loss": ("its loss", ".4f"),
  "loss_at_narrow_rate": ("at the narrow one's", ".4f"),
  "seconds": ("seconds", ".0f"),
}
TIMES = (1, 2, 4)  # as wide as the model of the gin files, whose width is 128
_RULES = ("with", "without")
LABELS = tuple(f"{rule} BASE_EMB_DIM, width 512" for rule in _RULES)
_START, _LEAST, _MOST = -8, -16, -2  # learning rates, as powers of two


class _Objective(NamedTuple):
  files: Sequence[str]
  bindings: Sequence[str]


_LAYERS = "config.TransformerConfig.num_{}_layers = 2"
OBJECTIVES: Mapping[str, _Objective] = {
  "causal LM": _Objective(
    ("models/decoder_only_tiny.gin", "objectives/causal_lm.gin"),
    (_LAYERS.format("decoder"), "TASK_FEATURE_LENGTHS = {'targets': 64}"),
  ),
  "masked LM": _Objective(
    ("models/encoder_only_tiny.gin", "objectives/masked_lm.gin"),
    (
      _LAYERS.format("encoder"),
      "TASK_FEATURE_LENGTHS = {'inputs': 64}",
      "vocabularies.byte_vocabulary.specials_from_extra_ids = ('[CLS]', '[SEP]', '[MASK]')",
    ),
  ),
  "span corruption": _Objective(
    ("models/encoder_decoder_tiny.gin", "objectives/span_corruption.gin"),
    (
      "TASK_FEATURE_LENGTHS = {'inputs': 64}",
      "span_corruption.SpanCorruption.noise_density = 0.5",
      "span_corruption.SpanCorruption.mean_span = 8.0",
    ),
  ),
}
_SETTINGS = (
  "VOCAB_SIZE = 384",
  "TRAIN_STEPS = 100",
  "WARMUP_STEPS = 10",  # Of no effect: a tenth of the steps warm up.
  "BATCH_SIZE = 16",
  "EVAL_BATCHES = 16",
  "SCAN_LAYERS = False",
  "SHUFFLE_BUFFER_SIZE = 8192",
  "MODEL_DIR = 'unused'",
)


def measure(
  gin_file: Sequence[str] = (),
  gin_bindings: Sequence[str] = (),
  gin_search_paths: Sequence[str] = (),
  records: str | None = None,
  objectives: Sequence[str] = tuple(OBJECTIVES),
  times: Sequence[int] = TIMES,
) -> Iterator[dict[str, Any]]:
  """Yields a row for each objective, rule and width.

  Args:
    gin_file, gin_bindings, gin_search_paths: they change all runs.
    records: the file of finished runs.
    objectives: names of OBJECTIVES.
    times: widths, as multiples of that of the gin files; the first one is 1.
  """
  from t5x_style.training import train_config

  kept = Records(Path(records or RECORDS))
  for title in objectives:
    files, bindings = OBJECTIVES[title]
    files = ("runs/pretrain.gin", "data/python_stdlib.gin", "data/bytes.gin", *files, *gin_file)
    configuration = reader.read(files, [*_SETTINGS, *bindings, *gin_bindings], gin_search_paths)
    yield from _rows(title, configuration.build(train_config.TrainConfig), kept, times)


class Records:
  """The finished runs, as lines of JSON in a file: {"key": ..., "loss": ..., ...}."""

  def __init__(self, path: Path):
    self._path = path
    lines = path.read_text().splitlines() if path.exists() else []
    self._found = {record["key"]: record for record in map(json.loads, lines)}

  def get(self, key: str) -> dict[str, Any] | None:
    return self._found.get(key)

  def add(self, record: dict[str, Any]) -> None:
    """Adds a finished run to the end of the file."""
    self._found[record["key"]] = record
    self._path.parent.mkdir(parents=True, exist_ok=True)
    with self._path.open("a") as file:
      file.write(json.dumps(record) + "\n")


def _rows(title: str, config: Any, kept: Records, times: Sequence[int]) -> Iterator[dict[str, Any]]:
  batches = functools.cache(functools.partial(_batches, config))
  group = f"{title}, {config.train_steps} steps of {config.batch_size} rows"
  narrow = None
  for rule, many in itertools.product(_RULES, times):
    if rule != _RULES[0] and many == times[0]:
      continue  # The narrowest model is the same one with both rules.
    sized = dataclasses.replace(config, model=_model(config.model, many, rule == "with"))
    trials = Trials(f"{title}, {rule}", sized, batches, kept)
    start = _START if narrow is None else min(narrow, key=narrow.__getitem__)
    losses = search(trials.loss, start)
    narrow = narrow or losses
    best = optimum(losses)
    yield {
      "group": group,
      "label": f"{rule} BASE_EMB_DIM, width {sized.model.emb_dim}",
      "best_rate": 2.0**best,
      "moved": 2.0 ** abs(best - optimum(narrow)),
      "loss": min(losses.values()),
      "loss_at_narrow_rate": losses[start] if losses is not narrow else None,
      "seconds": trials.seconds,
      "losses": {f"2^{rate}": loss for rate, loss in sorted(losses.items())},
    }


def _model(model: Any, times: int, transferred: bool) -> Any:
  """Returns a model with this many times the width and the heads."""
  return dataclasses.replace(
    model,
    emb_dim=model.emb_dim * times,
    num_heads=model.num_heads * times,
    num_kv_heads=model.kv_heads * times,
    mlp_dim=model.mlp_dim * times,
    base_emb_dim=model.emb_dim if transferred and times > 1 else None,
  )


def search(loss: Callable[[int], float], start: int) -> dict[int, float]:
  """Returns {exponent of the rate: loss}, with both neighbours of the best, or the last ones."""
  losses = {start: loss(start)}
  while True:
    best = min(losses, key=losses.__getitem__)
    unknown = [x for x in (best - 1, best + 1) if x not in losses and _LEAST <= x <= _MOST]
    if not unknown:
      return losses
    losses[unknown[0]] = loss(unknown[0])


def optimum(losses: Mapping[int, float]) -> float:
  """Returns the exponent at the lowest point of a parabola through the best and its neighbours."""
  best = min(losses, key=losses.__getitem__)
  below, above = (losses.get(best + step, math.inf) for step in (-1, 1))
  if math.isinf(below) or math.isinf(above):
    return float(best)
  bend = below - 2 * losses[best] + above
  return best + (0.5 * (below - above) / bend if bend else 0.0)


class Trials:
  """The runs of one model; it is compiled once for all learning rates, and only if one is missing.

  Attributes:
    seconds: that the runs took, those of earlier calls too.
  """

  def __init__(self, name: str, config: Any, batches: Callable[[], Any], kept: Records):
    from t5x_style.training import setup

    self._name, self._batches, self._kept = name, batches, kept
    self._prepared = setup.prepare(config)
    # The hyperparameters of the optimizer show with the rate 0, which no run has.
    described = config.optimizer(lambda count: 0.0).hyperparameters
    settings = [config.train_steps, config.clip_gradient_norm, config.eval_batches, described]
    identity = self._prepared.identity()
    # Without the options that a later version adds.
    identity |= {name: _set_fields(getattr(config, name)) for name in ("model", "loss")}
    text = json.dumps([identity, settings], sort_keys=True)
    self._settings = hashlib.sha256(text.encode()).hexdigest()[:16]
    self.seconds = 0.0

  def loss(self, exponent: float) -> float:
    """Returns the held-out loss with the peak rate 2^exponent; infinite if it is not a number."""
    key = f"{self._settings} 2^{exponent}"
    record = self._kept.get(key)
    if record is None:
      before = time.monotonic()
      loss = self._run(2.0**exponent)
      record = {
        "key": key,
        "runs": self._name,
        "width": self._prepared.config.model.emb_dim,
        "rate": 2.0**exponent,
        "loss": loss if math.isfinite(loss) else None,
        "seconds": round(time.monotonic() - before, 1),
      }
      self._kept.add(record)
    self.seconds += record["seconds"]
    return math.inf if record["loss"] is None else record["loss"]

  def _run(self, peak: float) -> float:
    import jax
    import jax.numpy as jnp

    prepared = self._prepared
    training, held_out = self._batches()
    state = prepared.init(prepared.config.seed)
    with prepared.partitioner.context():
      for batch in training:
        state, _ = self._step(state, prepared.partitioner.put(batch), jnp.float32(peak))
      jax.block_until_ready(state.params)
    return self._evaluate(state.params, held_out)["loss"]

  @functools.cached_property
  def _step(self) -> Any:
    import jax

    from t5x_style.training import schedules, setup, step

    prepared, steps = self._prepared, self._prepared.config.train_steps

    def train_step(state, batch, peak):
      schedule = schedules.cosine(peak, steps, max(1, steps // 10))
      optimizer = setup.make_optimizer(dataclasses.replace(prepared.config, schedule=schedule))
      return step.make_train_step(prepared.loss, optimizer, schedule)(state, batch)

    return jax.jit(train_step, donate_argnums=0)

  @functools.cached_property
  def _evaluate(self) -> Any:
    from t5x_style.training import evaluation

    return evaluation.make_evaluate(self._prepared)


def _set_fields(settings: Any) -> dict[str, Any]:
  """Returns the fields of a dataclass that do not have their defaults, as JSON."""
  values = dataclasses.asdict(settings)
  changed = [x.name for x in dataclasses.fields(settings) if getattr(settings, x.name) != x.default]
  return {name: values[name] for name in changed}


def _batches(config: Any) -> tuple[list[Any], list[Any]]:
  """Returns the batches of training and of evaluation, which all runs of an objective share."""
  from t5x_style.training import setup

  dataset = setup.prepare(config).dataset
  stream = dataset.train()
  training = [next(stream) for _ in range(config.train_steps)]
  return training, list(dataset.evaluation(config.eval_batches))
