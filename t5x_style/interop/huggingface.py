"""Hugging Face models: what of theirs is what of ours, and parameters read from a folder."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.checkpoints.arrays import Stored
from t5x_style.checkpoints.warm_start import Shapes
from t5x_style.errors import UserError, shortened
from t5x_style.interop.config_keys import ConfigKeys
from t5x_style.interop.differences import differences
from t5x_style.interop.families import albert, bart, bert, gpt2, llama, modernbert, roberta, t5
from t5x_style.interop.rules import Keys, Rule, letter_sizes
from t5x_style.interop.safetensors_files import (
  INDEX,
  SINGLE,
  Tensor,
  read_folder,
  read_header,
  same_bits,
)
from t5x_style.interop.settings import Settings
from t5x_style.models import Transformer, TransformerConfig
from t5x_style.models.stack import layer_path

# By the model_type of config.json.
FAMILIES: dict[str, ModuleType] = {
  "t5": t5,
  "mt5": t5,
  "bart": bart,
  "bert": bert,
  "roberta": roberta,
  "albert": albert,
  "modernbert": modernbert,
  "gpt2": gpt2,
  "llama": llama,
  "qwen3": llama,
}
UNUSED = "unused.safetensors"  # the file in which an import keeps what has no place here
PREFIX = "hf:"  # of a path, to say that it is a Hugging Face folder
_FLOATS = ("float32", "float64", "float16", "bfloat16")
# Names of TensorFlow, which files of the first BERTs still have.
_OLD_NAMES = ((".gamma", ".weight"), (".beta", ".bias"))


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a rule's parameter is: the path in the tree, the index on axis 0 of a stacked one."""

  keys: Keys
  index: int | None

  def __str__(self):
    return "/".join(self.keys) + ("" if self.index is None else f"[{self.index}]")


@dataclasses.dataclass(frozen=True)
class Correspondence:
  """A model of ours and how its parameters are called and laid out in a family of theirs.

  Attributes:
    bare: whether theirs is the model without a head, in whose files names have no prefix.
  """

  config: TransformerConfig
  family: ModuleType
  bare: bool = False

  def file_name(self, name: str) -> str:
    """A tensor's name in a file."""
    return name.removeprefix(self.family.BASE) if self.bare else name

  @property
  def zeros(self) -> dict[str, tuple[int, ...]]:
    """{name: shape} of tensors that only they have, of nothing but zeros."""
    has = hasattr(self.family, "zeros") and not self.bare
    return self.family.zeros(self.config) if has else {}

  @property
  def copies(self) -> dict[str, str]:
    """{name: another name} of tensors that only they have, to be written as the other is."""
    return self.family.copies(self.config) if hasattr(self.family, "copies") else {}

  @property
  def repeated(self) -> dict[str, str]:
    """{name: another name} of all tensors that a file may have and that are one with the other."""
    return self.family.aliases(self.config) | self.copies

  @functools.cached_property
  def rules(self) -> tuple[Rule, ...]:
    return tuple(self.family.rules(self.config))

  @functools.cached_property
  def sizes(self) -> dict[str, int]:
    return letter_sizes(self.config)

  @functools.cached_property
  def places(self) -> dict[Keys, list[tuple[Place, Rule]]]:
    """The rules by parameter, those of a stacked one by layer.

    Raises:
      UserError: the model has a parameter the family has no word for.
    """
    found: dict[Keys, list[tuple[Place, Rule]]] = {}
    for rule in self.rules:
      place = self._place(rule)
      found.setdefault(place.keys, []).append((place, rule))
    unknown = [keys for keys in abstract_params(self.config) if keys not in found]
    foreign = [keys for keys in found if keys not in abstract_params(self.config)]
    if unknown or foreign:
      names = ", ".join(shortened(["/".join(keys) for keys in [*unknown, *foreign]]))
      kind = self.family.__name__.rpartition(".")[2]
      raise UserError(f"Models of the family {kind} are not made of {names}.")
    return found

  @functools.cached_property
  def tensors(self) -> dict[str, tuple[int, ...]]:
    """{name: shape} of all their tensors, in the order of the model."""
    return {rule.theirs: rule.shapes(self.sizes)[0] for rule in self.rules}

  def _place(self, rule: Rule) -> Place:
    inside = tuple(rule.ours.split("/"))
    if not rule.stack:
      return Place(inside, None)
    layers = getattr(self.config, f"num_{rule.stack}_layers")
    path, index = layer_path(self.config, layers, rule.layer)
    return Place((rule.stack, *path, *inside), index)


@dataclasses.dataclass(frozen=True)
class Folder:
  """A Hugging Face folder that was found to be a whole model of a family known here."""

  settings: Settings
  correspondence: Correspondence
  tensors: Mapping[str, Tensor]  # by the names that the rules use
  left_out: Mapping[str, str]  # {name in the file: why it is not needed}
  unused: Mapping[str, Tensor]  # those left out that a model of theirs has and none of ours

  def view(self, rule: Rule) -> np.ndarray:
    """The tensor, or part of one, that a rule is about, in the shape of ours and not read yet."""
    return rule.view(self.tensors[rule.theirs].map(), self.correspondence.sizes)


def open_folder(folder: str | Path, **changes: Any) -> Folder:
  """Reads config.json and the headers of the safetensors of a folder, and checks that all fits.

  Args:
    changes: fields of the TransformerConfig that do not alter the model, such as scan_layers.

  Raises:
    UserError: files are missing, or a file is damaged, a setting cannot be expressed, or the
      tensors are not those of the model; then all that are missing, left over or of another shape
      are listed.
  """
  settings = Settings.read(folder)
  family = family_of(settings)
  tensors = _canonical(read_folder(folder), family)
  config = TransformerConfig(**(family.from_settings(settings, tensors) | changes))
  correspondence = Correspondence(config, family)
  for name, other in correspondence.repeated.items():
    if name in tensors:  # Of two that are one, a file may hold either.
      tensors.setdefault(other, tensors[name])
  left_out = _check(str(folder), settings, correspondence, tensors)
  kept = {name: tensor for name, tensor in tensors.items() if name in correspondence.tensors}
  return Folder(settings, correspondence, kept, left_out, _unused(correspondence, tensors))


def read_unused(folder: Path, correspondence: Correspondence) -> dict[str, Tensor]:
  """What has no place in the models here, of a Hugging Face folder or of what an import kept.

  Raises:
    UserError: a file is missing or damaged.
  """
  if (folder / UNUSED).is_file():
    tensors = read_header(folder / UNUSED)
  elif (folder / INDEX).is_file() or (folder / SINGLE).is_file():
    tensors = read_folder(folder)
  else:
    return {}
  return _unused(correspondence, _canonical(tensors, correspondence.family))


def read(path: str, config: TransformerConfig, shapes: Shapes) -> dict[str, Stored] | None:
  """What INITIAL_CHECKPOINT_PATH = "hf:FOLDER" means: a reader of `training.initial`.

  Raises:
    UserError: as `open_folder`; or the folder's model computes something else
      than the configured one.
  """
  if not path.startswith(PREFIX):
    if (Path(os.path.expanduser(path)) / "config.json").is_file():
      raise UserError(
        f"INITIAL_CHECKPOINT_PATH = {path!r} is a Hugging Face folder; write {PREFIX + path!r}."
      )
    return None
  folder = path.removeprefix(PREFIX)
  source = open_folder(folder, scan_layers=False)
  there = dataclasses.replace(source.correspondence.config, vocab_size=config.vocab_size)
  wrong = differences(config, there)
  if wrong:
    raise UserError(
      f"INITIAL_CHECKPOINT_PATH = {path!r} holds another model than the one configured (here, "
      f"there): {'; '.join(shortened(wrong))}. A model file that fits is written by `python -m "
      f"launch.convert --from {path} --to NEW_FOLDER`."
    )

  def stored(rule: Rule) -> Stored:
    return Stored(
      rule.shapes(source.correspondence.sizes)[1],
      lambda i: finite(source.view(rule)[i], rule.theirs, folder),
    )

  places = source.correspondence.places
  return {"/".join(keys): stored(parts[0][1]) for keys, parts in places.items()}


def finite(values: np.ndarray, name: str, folder: str) -> np.ndarray:
  """The values.

  Raises:
    UserError: some are NaN or infinite.
  """
  if not np.isfinite(values).all():
    raise not_finite([name], folder)
  return values


def not_finite(names: Sequence[str], folder: str) -> UserError:
  return UserError(
    f"{folder!r} holds numbers that are NaN or infinite, so the model is damaged or diverged while "
    f"it was trained: {', '.join(shortened(names))}. Take another checkpoint of it."
  )


def family_of(settings: Settings) -> ModuleType:
  """The family by model_type.

  Raises:
    UserError: it is none of those known.
  """
  kind = settings.model_type
  if not isinstance(kind, str) or kind not in FAMILIES:
    raise settings.refusal("model_type", kind, FAMILIES)
  return FAMILIES[kind]


def form_of(settings: Settings) -> type[ConfigKeys]:
  """The class of the keys that models of this type have."""
  return family_of(settings).KEYS[settings.model_type]


@functools.lru_cache(maxsize=8)
def abstract_params(config: TransformerConfig) -> dict[Keys, jax.ShapeDtypeStruct]:
  """The shapes of a model's parameters by path."""
  batch = {}
  for side, layers in (
    ("encoder", config.num_encoder_layers),
    ("decoder", config.num_decoder_layers),
  ):
    if layers:
      batch[f"{side}_input_tokens"] = jnp.zeros((1, 1), jnp.int32)
  init = functools.partial(Transformer(config).init, jax.random.PRNGKey(0), batch)
  return _flat(nn.meta.unbox(jax.eval_shape(init)["params"]))


def _flat(tree: Any) -> dict[Keys, Any]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def shape_of(leaf: Any) -> str:
  return "nothing" if leaf is None else str(tuple(leaf.shape))


def _canonical(tensors: Mapping[str, Tensor], family: ModuleType) -> dict[str, Tensor]:
  """The tensors by the names of a model with a head, in which the base model has a prefix."""
  base = family.BASE
  bare = base and not any(name.startswith(base) for name in tensors)
  found = {}
  for name, tensor in tensors.items():
    for old, new in _OLD_NAMES:
      if name.endswith(old):
        name = name.removesuffix(old) + new
    headless = bare and not name.startswith(tuple(family.HEADS))
    found[base + name if headless else name] = tensor
  return found


def _unused(model: Correspondence, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
  """Tensors that only Hugging Face's model has; they are of no use to a model of another size."""
  return {
    name: tensors[name]
    for name, layout in getattr(model.family, "UNUSED", {}).items()
    if name in tensors
    and name not in model.tensors
    and tensors[name].shape == tuple(model.sizes[letter] for letter in layout.split())
  }


def _matches(name: str, patterns: Iterable[str]) -> bool:
  return any(re.fullmatch(pattern, name) for pattern in patterns)


def _check(
  folder: str, settings: Settings, model: Correspondence, tensors: Mapping[str, Tensor]
) -> dict[str, str]:
  """What of the tensors is not needed, and why."""
  wrong, left_out = [], {}
  repeated = model.repeated
  for name, shape in model.tensors.items():
    if name not in tensors:
      wrong.append(f"  missing: {name} {list(shape)}")
    elif tensors[name].shape != shape:
      wrong.append(f"  {name}: {list(tensors[name].shape)} there, {list(shape)} by config.json")
    elif tensors[name].dtype.name not in _FLOATS:
      wrong.append(f"  {name}: holds {tensors[name].dtype.name}, not floating-point numbers")
  for name, tensor in tensors.items():
    if name in model.tensors:
      continue
    if _matches(name, model.family.BUFFERS):
      left_out[name] = "a buffer, not a parameter"
    elif name in repeated and same_bits(tensor, tensors.get(repeated[name])):
      left_out[name] = f"the same as {repeated[name]}"
    elif name in getattr(model.family, "UNUSED", {}):
      left_out[name] = "has no place in the model here"
    elif name in model.zeros and tensor.shape == model.zeros[name] and not tensor.map().any():
      left_out[name] = "zeros, as always there"
    elif name in model.copies:
      wrong.append(f"  {name} differs from {repeated[name]}; models here have one for both")
    elif name in repeated:
      wrong.append(f"  {name} differs from {repeated[name]}, which config.json ties it to")
    else:
      wrong.append(f"  left over: {name} {list(tensor.shape)}")
  if wrong:
    classes = settings.architectures
    hint = ""
    if unsaid := settings.unsaid(form_of(settings)):
      hint += f"\nconfig.json does not say, so as in transformers: {', '.join(unsaid)}."
    if classes and classes[0] not in model.family.ARCHITECTURES:
      hint += (
        f"\nIt is a {classes[0]}; {settings.model_type} models are known as "
        f"{', '.join(model.family.ARCHITECTURES)}."
      )
    raise UserError(
      f"The tensors of {folder!r} are not those of the model that its config.json describes; "
      f"{len(wrong)} differ:\n" + "\n".join(shortened(wrong)) + hint
    )
  return left_out
