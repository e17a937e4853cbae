"""T5X's gin files in the names of this package, and what of them has no counterpart.

T5X's own files need not be there: a run file or a model that is included by its usual name, such as
't5x/configs/runs/pretrain.gin', becomes the file of this package that does the same.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gin import config_parser

from ..configuration import t5x_names
from ..configuration.gin_files import Binding
from ..configuration.gin_text import (
  Macro,
  Reference,
  SourceLocation,
  binding_text,
  parse_text,
  replace,
)
from ..process.errors import ConfigurationError

_REQUIRED = Macro("gin.REQUIRED")
_MODEL = r"t5x/(?:examples/(?:t5|scalable_t5)|contrib/gpu/t5)/(t5_1_1|t5_1_0|mt5|byt5)/(\w+)\.gin"
_SIZES = ("small", "base", "large", "xl", "xxl", "3b", "11b")
# T5X's run files: the files that do the same here, and what these set otherwise.
_RUNS: Mapping[str, tuple[tuple[str, ...], dict[str, Any]]] = {
  "pretrain": (("runs/t5.gin",), {}),
  "finetune": (
    ("runs/finetune.gin", "runs/optimizers/adafactor.gin", "runs/schedules/constant.gin"),
    {
      "BATCH_SIZE": 128,
      "EVAL_PERIOD": 1000,
      "EVAL_BATCHES": 20,
      "SAVE_PERIOD": 5000,
      "PEAK_LEARNING_RATE": 0.001,
      "WARMUP_STEPS": 0,
      "BEST_METRIC": "loss",
      "Z_LOSS": 0.0001,
    },
  ),
}
_SEQIO_EVALUATION = "`python -m launch.eval tasks MODEL_DIR` evaluates SeqIO tasks by their metrics"
_OPTIMIZERS = {"Adafactor": "adafactor", "adamw": "adamw", "lion": "lion"}
# The factors of T5X's learning rate, in any order.
_SCHEDULES: Mapping[frozenset[str], tuple[str, dict[str, Any]]] = {
  frozenset({"constant"}): ("constant", {"WARMUP_STEPS": 0}),
  frozenset({"constant", "linear_warmup"}): ("constant", {}),
  frozenset({"constant", "rsqrt_decay"}): ("rsqrt", {}),
}
# {a pattern of T5X's names: why nothing stands for it here}
_WITHOUT = {
  r"USE_CACHED_TASKS|DatasetConfig\.use_cached": "caches of SeqIO are not read; `python -m "
  "launch.cache` makes a token cache of a corpus",
  r"SHUFFLE_TRAIN_EXAMPLES|DatasetConfig\.shuffle": "training examples are always shuffled",
  r"DatasetConfig\.(split|seed)": "a run reads the split 'train' and evaluates on 'validation', in "
  "the order of RANDOM_SEED",
  r"USE_HARDWARE_RNG|train\.use_hardware_rng": "JAX's own generator of random numbers is used",
  r"TRAIN_STEPS_RELATIVE|train\.relative_steps": "TRAIN_STEPS counts from the start of this run",
  r"EVALUATOR_\w+|JSON_WRITE_\w+|(Evaluator|JSONLogger)\.\w+": _SEQIO_EVALUATION,
  r"train\.infer\w+|infer_eval/.*": _SEQIO_EVALUATION,
  r"train_eval/.*": "held-out batches are those of the split 'validation' of the same task",
  r"SaveCheckpointConfig\.save_dataset": "the position in the data is always saved",
  r"(Save|Restore)CheckpointConfig\.(dtype|mode)": "a checkpoint holds the parameters as they are "
  "trained (PARAM_DTYPE)",
  r"SaveCheckpointConfig\.keep": "a number is needed; KEEP_CHECKPOINTS is 3",
  r"Adafactor\.logical_factor_rules": "Adafactor's factors follow from the shapes of parameters",
  r"RANDOM_SEED|train\.random_seed": "a number is needed; RANDOM_SEED is 0",
}
# What only joins T5X's own classes, and needs no counterpart.
_JOINS = re.compile(
  r"MODEL|(train\.(model|train_dataset_cfg|train_eval_dataset_cfg|checkpoint_cfg|partitioner|"
  r"trainer_cls|summarize_config_fn)|CheckpointConfig\.(save|restore)|\w+Model\.(module|"
  r"optimizer_def|input_vocabulary|output_vocabulary)|Transformer\.config|Trainer\.learning_rate_fn|"
  r"\w+\.transformations|standard_\w+\.\w+)"
)


class Lost(NamedTuple):
  """A setting of T5X that the translation leaves out."""

  name: str
  place: str  # the file and the line that set it
  reason: str


class Translation(NamedTuple):
  """A T5X configuration in the names of this package."""

  text: str
  lost: list[Lost]


def translate(path: Path, search_paths: Sequence[Path] = ()) -> Translation:
  """Translates a gin file of T5X.

  Args:
    search_paths: folders in which included files are looked for, besides that of the file.

  Raises:
    ConfigurationError: a file is not there, or is not gin.
  """
  files = _T5xFiles(search_paths)
  files.read(path)
  return _Translator(files).translation(path.name)


class _T5xFiles:
  """The bindings of T5X's gin files, and which of its own files they include."""

  def __init__(self, search_paths: Sequence[Path]):
    self._search_paths = search_paths
    self._open: list[Path] = []
    self.run = ""  # "pretrain" or "finetune"
    self.model = ""  # of gin_configs/
    self.bindings: dict[str, Binding] = {}  # by T5X's name
    self.imports: list[str] = []  # modules, in the order of the files

  def read(self, path: Path) -> None:
    try:
      text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
      raise ConfigurationError(f"{path} is not text in UTF-8.") from error
    except OSError as error:
      raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    if path.resolve() in self._open:
      raise ConfigurationError(f"{path} includes itself.")
    self._open.append(path.resolve())
    for statement, location in parse_text(text, str(path)):
      if isinstance(statement, config_parser.IncludeStatement):
        self._include(statement.filename, path.parent, location)
      elif isinstance(statement, config_parser.ImportStatement):
        self.imports.append(statement.module)
      elif isinstance(statement, config_parser.BindingStatement):
        scope, selector, argument, value, _ = statement
        name = f"{selector.rpartition('.')[2]}.{argument}" if argument else selector
        if scope and scope != "train":
          name = f"{scope}/{name}"
        self.bindings[name] = Binding(scope, selector, argument, value, location, {})
    self._open.pop()

  def _include(self, name: str, folder: Path, location: SourceLocation) -> None:
    run = re.search(r"t5x/.*configs/runs/(pretrain|finetune)\.gin$", name)
    if run:
      self.run = run[1]
      return
    model = re.search(rf"{_MODEL}$", name)
    if model and model[2].lower() in _SIZES:
      self.model = f"models/{model[1].replace('t5_1_0', 't5')}/{model[2].lower()}.gin"
      return
    for place in (Path.cwd(), folder, *self._search_paths):
      if (place / name).is_file():
        self.read(place / name)
        return
    raise ConfigurationError(
      f"The included file {name!r} is not there; say where T5X's folders are: "
      f"--gin_search_paths=/path/to/t5x_clone.{location.quoted()}"
    )


class _Translator:
  """What is collected while T5X's bindings are read one after the other."""

  def __init__(self, files: _T5xFiles):
    self._files = files
    self._includes: list[str] = []
    self._values: dict[str, tuple[Any, str]] = {}  # with a comment
    self._lost: list[Lost] = []

  def translation(self, name: str) -> Translation:
    """Returns the text of a gin file that does what the file `name` does in T5X."""
    files = self._files
    includes, values = _RUNS[files.run or "pretrain"]
    self._includes += includes
    of_run = f"as T5X's {files.run}.gin"
    self._values |= {key: (value, of_run) for key, value in values.items()}
    self._values["MODEL_DIR"] = (f"model_dirs/{Path(name).stem}", "")
    special: Mapping[str, Callable[[Binding], None]] = {
      "OPTIMIZER": self._optimizer,
      "PjitPartitioner.num_partitions": self._partitions,
      "PjitPartitioner.model_parallel_submesh": self._partitions,
      "create_learning_rate_scheduler.factors": self._schedule,
      "create_learning_rate_scheduler.base_learning_rate": self._rate,
    }
    for t5x, binding in files.bindings.items():
      if t5x in special:
        special[t5x](binding)
      elif binding.value != _REQUIRED:
        self._binding(t5x, binding)
    self._subtract_trained_steps()
    self._find_module()
    return Translation(self._text(name), self._lost)

  def _binding(self, t5x: str, binding: Binding) -> None:
    value = self._resolved(binding.value)
    own = t5x_names.RENAMED.get(t5x)
    known = isinstance(binding.value, Macro) and binding.value.name in t5x_names.RENAMED
    if _JOINS.fullmatch(t5x) or (own and known):
      return  # The macro says it.
    reason = next((why for what, why in _WITHOUT.items() if re.fullmatch(what, t5x)), "")
    if own and not _has_reference(value) and not (reason and value is None):
      if t5x != "RestoreCheckpointConfig.path" or value:  # [] is from nothing, as None here
        self._values[own] = (value, _place(binding))
    elif reason or not self._is_used(t5x):
      self._lose(t5x, binding, reason or "it is not known here")

  def _is_used(self, t5x: str) -> bool:
    """Returns whether it is a macro that another binding refers to, which then stands for it."""
    users = (b.value for b in self._files.bindings.values())
    return "." not in t5x and any(value == Macro(t5x) for value in users)

  def _lose(self, t5x: str, binding: Binding, reason: str) -> None:
    self._lost.append(Lost(t5x, _place(binding), reason))

  def _resolved(self, value: Any) -> Any:
    """Returns a value with the macros of the files in it replaced."""

    def meaning(macro: Macro) -> Any:
      found = self._files.bindings.get(macro.name)
      known = found is not None and found.value not in (_REQUIRED, macro)
      return self._resolved(found.value) if found and known else macro

    return replace(value, Macro, meaning)

  def _optimizer(self, binding: Binding) -> None:
    names = [r.selector.rpartition(".")[2] for r in _references(binding.value)]
    names += [
      reference.selector.rpartition(".")[2]
      for name, other in self._files.bindings.items()
      if name == "chain.transformations"
      for reference in _references(other.value)
    ]
    found = next((_OPTIMIZERS[name] for name in names if name in _OPTIMIZERS), "")
    if found:
      self._includes.append(f"runs/optimizers/{found}.gin")
    else:
      self._lose("OPTIMIZER", binding, "choose a file of gin_configs/runs/optimizers/")

  def _schedule(self, binding: Binding) -> None:
    factors = frozenset(part.strip() for part in str(self._resolved(binding.value)).split("*"))
    if factors in _SCHEDULES:
      name, values = _SCHEDULES[factors]
      self._includes.append(f"runs/schedules/{name}.gin")
      self._values |= {key: (value, _place(binding)) for key, value in values.items()}
    else:
      self._lose(
        "create_learning_rate_scheduler.factors",
        binding,
        f"no schedule here is the product of {', '.join(sorted(factors))}; choose a file of "
        "gin_configs/runs/schedules/",
      )

  def _rate(self, binding: Binding) -> None:
    factors = self._files.bindings.get("create_learning_rate_scheduler.factors")
    rsqrt = "rsqrt" in str(factors.value) if factors else self._files.run != "finetune"
    name = "schedules.rsqrt.base" if rsqrt else "PEAK_LEARNING_RATE"
    self._values[name] = (self._resolved(binding.value), _place(binding))

  def _partitions(self, binding: Binding) -> None:
    value = self._resolved(binding.value)
    if isinstance(value, tuple | list):
      value = math.prod(value)
    if isinstance(value, int) and value > 1:
      self._values["MESH_SHAPE"] = ({"data": -1, "tensor": value}, _place(binding))

  def _subtract_trained_steps(self) -> None:
    """T5X counts the steps of the checkpoint that a run starts from; here a run starts at 0."""
    path, _ = self._values.get("INITIAL_CHECKPOINT_PATH", ("", ""))
    trained = re.search(r"checkpoint_(\d+)/?$", path) if isinstance(path, str) else None
    steps, place = self._values.get("TRAIN_STEPS", (None, ""))
    if trained and isinstance(steps, int) and steps > int(trained[1]):
      more = steps - int(trained[1])
      self._values["TRAIN_STEPS"] = (more, f"{place}: {steps}, with those of the checkpoint")

  def _find_module(self) -> None:
    """T5X's files register tasks by importing a module; here a setting names it."""
    value, _ = self._values.get("MIXTURE_OR_TASK_MODULE", (None, ""))
    own = ("t5x", "seqio", "optax", "__main__", "__gin__")
    modules = [m for m in self._files.imports if m.split(".")[0] not in own]
    if "MIXTURE_OR_TASK_NAME" in self._values and value is None and modules:
      self._values["MIXTURE_OR_TASK_MODULE"] = (modules[-1], "which the file imports")

  def _text(self, name: str) -> str:
    model = [self._files.model] if self._files.model else ["models/t5_1_1/family.gin"]
    first = self._includes[:1]  # the run, which the other files change
    includes = dict.fromkeys([*first, *self._includes[1:], *model])
    modules = {key.split(".")[0] for key in self._values if "." in key}
    imports = {"config": "models"} | dict.fromkeys(("optimizers", "schedules"), "training")
    lines = [f"# {name} of T5X in the names of t5x_style."]
    lines += [f"include '{include}'" for include in includes]
    if modules:
      lines.append("from __gin__ import dynamic_registration")
      lines += [f"from t5x_style.{imports[m]} import {m}" for m in sorted(modules)]
    lines.append("")
    macros_first = sorted(self._values.items(), key=lambda item: "." in item[0])
    for key, (value, comment) in macros_first:
      lines.append(binding_text(key, value, comment))
    return "\n".join(lines) + "\n"


def _place(binding: Binding) -> str:
  """Returns the name of the file and the line of a binding."""
  return f"{Path(binding.location.source).name}:{binding.location.line}"


def _references(value: Any) -> Iterator[Reference]:
  found: list[Reference] = []
  replace(value, Reference, found.append)
  yield from found


def _has_reference(value: Any) -> bool:
  return any(True for _ in _references(value)) or value == _REQUIRED
