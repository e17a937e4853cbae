"""Which parameters of a model are which tensors of a Hugging Face model, and their shapes."""

from __future__ import annotations

import dataclasses
import functools
from types import ModuleType
from typing import Any

import jax

from t5x_style.errors import UserError, shortened
from t5x_style.interop.huggingface.tensor_rules import Keys, TensorRule, letter_sizes
from t5x_style.models import TransformerConfig
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.models.stack import layer_path


@dataclasses.dataclass(frozen=True)
class ParameterPlace:
  """The place of a parameter, or of one layer or expert of a stacked parameter.

  Attributes:
    keys: the path in the tree of parameters.
    index: of the layer and of the expert, on the first axes; () where the parameter is not stacked.
  """

  keys: Keys
  index: tuple[int, ...] = ()

  def __str__(self):
    return "/".join(self.keys) + "".join(f"[{i}]" for i in self.index)


@dataclasses.dataclass(frozen=True)
class Correspondence:
  """How the parameters of a model are named and laid out in a Hugging Face family.

  Attributes:
    bare: whether the files are those of the model without a head, where names have no prefix.
  """

  config: TransformerConfig
  family: ModuleType
  bare: bool = False

  def file_name(self, name: str) -> str:
    """Returns the name of a tensor in the files."""
    return name.removeprefix(self.family.BASE_PREFIX) if self.bare else name

  @property
  def zeros(self) -> dict[str, tuple[int, ...]]:
    """{name: shape} of tensors that hold only zeros and are no parameters of a Transformer."""
    has = hasattr(self.family, "zeros") and not self.bare
    return self.family.zeros(self.config) if has else {}

  @property
  def copies(self) -> dict[str, str]:
    """{name: another name} of tensors that have to repeat another one."""
    return self.family.copies(self.config) if hasattr(self.family, "copies") else {}

  @property
  def repeated(self) -> dict[str, str]:
    """{name: another name} of all tensors in files that are the same as another one."""
    return self.family.aliases(self.config) | self.copies

  @functools.cached_property
  def rules(self) -> tuple[TensorRule, ...]:
    return tuple(self.family.rules(self.config))

  @functools.cached_property
  def sizes(self) -> dict[str, int]:
    return letter_sizes(self.config)

  @functools.cached_property
  def places(self) -> dict[Keys, list[tuple[ParameterPlace, TensorRule]]]:
    """The rules of each parameter: one, or one per layer and expert of a stacked parameter.

    Raises:
      UserError: the model has a parameter that the family does not have, or the other way round.
    """
    found: dict[Keys, list[tuple[ParameterPlace, TensorRule]]] = {}
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
    """{name: shape} of all tensors that hold parameters, in the order of the model."""
    return {rule.tensor: rule.shapes(self.sizes)[0] for rule in self.rules}

  def _place(self, rule: TensorRule) -> ParameterPlace:
    inside = tuple(rule.parameter.split("/"))
    if not rule.stack:
      return ParameterPlace(inside)
    layers = getattr(self.config, f"num_{rule.stack}_layers")
    path, layer = layer_path(self.config, layers, rule.layer)
    index = tuple(i for i in (layer, rule.expert) if i is not None)
    return ParameterPlace((rule.stack, *path, *inside), index)


@functools.lru_cache(maxsize=8)
def abstract_params(config: TransformerConfig) -> dict[Keys, jax.ShapeDtypeStruct]:
  """Returns the shapes and dtypes of a model's parameters by path; nothing is computed."""
  leaves = jax.tree_util.tree_flatten_with_path(abstract_parameters(config))[0]
  return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def shape_of(leaf: Any) -> str:
  """Returns the shape of an array as a text, "nothing" for None."""
  return "nothing" if leaf is None else str(tuple(leaf.shape))
