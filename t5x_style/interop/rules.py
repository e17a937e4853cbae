"""Which parameter of ours is which tensor of theirs: rules that move numbers, as data.

A rule is data. Its layout names the dimensions of both sides, theirs first, as in

    (N H) D -> D N H        a torch.nn.Linear for N heads of width H
    D (P N H) -> D N H      part 1 of 3 of GPT-2's fused queries, keys and values

and with the sizes of the letters a tensor of theirs becomes a view that looks like a parameter of
ours. Reading the view imports, assigning to it exports.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from t5x_style.models import TransformerConfig

Keys = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Rule:
  """One parameter, or one layer of a stacked one, and the tensor or the part of a tensor it is.

  Attributes:
    ours: path inside the model, or inside the layer, joined by "/".
    theirs: the tensor's name.
    layout: "their dimensions -> our dimensions"; P counts the parts of a fused tensor.
    part, parts: which part of it, of how many.
    stack: "encoder" or "decoder" where `ours` is inside a layer; layer: which.
    factor: theirs is ours times this; 1 but where a model of ours has a step that theirs lack.
    skip: the first rows of this package's table that Hugging Face's lacks.
  """

  ours: str
  theirs: str
  layout: str
  part: int = 0
  parts: int = 1
  stack: str = ""
  layer: int = 0
  factor: float = 1.0
  skip: int = 0

  def shapes(self, sizes: Mapping[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Their shape and ours."""
    sizes = {**sizes, "P": self.parts}
    theirs, ours = self.layout.split(" -> ")
    rows, *rest = (math.prod(sizes[x] for x in group) for group in _groups(theirs))
    return (rows - self.skip, *rest), tuple(sizes[x] for x in ours.split())

  def view(self, tensor: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """Their tensor, or the part of it, in our shape (without rows to skip); nothing is copied."""
    sizes = {**sizes, "P": self.parts}
    theirs, ours = self.layout.split(" -> ")
    letters = [x for group in _groups(theirs) for x in group]
    view = tensor.reshape([sizes[letters[0]] - self.skip, *(sizes[x] for x in letters[1:])])
    if "P" in letters:
      view = np.moveaxis(view, letters.index("P"), 0)[self.part]
      letters.remove("P")
    return view.transpose([letters.index(x) for x in ours.split()])


def _groups(side: str) -> Iterator[list[str]]:
  """ "(N H) D" -> ["N", "H"], ["D"]"""
  group: list[str] | None = None
  for word in side.replace("(", "( ").replace(")", " )").split():
    if word == "(":
      group = []
    elif word == ")":
      assert group is not None
      yield group
      group = None
    elif group is not None:
      group.append(word)
    else:
      yield [word]


def letter_sizes(config: TransformerConfig) -> dict[str, int]:
  """What the letters in layouts stand for."""
  return {
    "V": config.vocab_size,
    "D": config.emb_dim,
    "O": config.emb_dim,  # the output of a map from D to D
    "E": config.table_dim,
    "N": config.num_heads,
    "K": config.kv_heads,
    "H": config.head_dim,
    "F": config.mlp_dim,
    "M": config.max_length + config.position_offset,
    "T": config.num_token_types,
    "R": config.relative_buckets,
    "C": config.pooled_classes,
  }


def dense(
  ours: str, theirs: str, layout: str, bias: bool, part: int = 0, parts: int = 1
) -> Iterator[Rule]:
  """The kernel of a linear map and, where there is one, its bias.

  The bias has the dimensions of the output: those of ours that are not in the input of theirs.
  """
  yield Rule(f"{ours}/kernel", f"{theirs}.weight", layout, part, parts)
  if bias:
    yield Rule(f"{ours}/bias", f"{theirs}.bias", _bias_layout(layout), part, parts)


def _bias_layout(layout: str) -> str:
  theirs, ours = layout.split(" -> ")
  groups = list(_groups(theirs))
  # The output is what comes last with us: "(N H) D -> D N H" has N H, "D (N H) -> N H D" has D.
  last = ours.split()[-1]
  out = next(group for group in groups if last in group)
  text = " ".join(out)
  return f"{f'({text})' if len(out) > 1 else text} -> {' '.join(x for x in out if x != 'P')}"


def norm(
  ours: str, theirs: str, bias: bool, letter: str = "D", factor: float = 1.0
) -> Iterator[Rule]:
  """The scale of a norm and, where there is one, its bias."""
  layout = f"{letter} -> {letter}"
  yield Rule(f"{ours}/scale", f"{theirs}.weight", layout, factor=factor)
  if bias:
    yield Rule(f"{ours}/bias", f"{theirs}.bias", layout, factor=factor)


def logit_factor(config: TransformerConfig) -> float:
  """What the last norm is multiplied by as ours divides hidden states by sqrt(D), theirs not."""
  return config.emb_dim**-0.5 if config.tie_embeddings and config.scale_logits else 1.0


def in_layer(stack: str, layer: int, prefix: str, rules: Iterator[Rule]) -> Iterator[Rule]:
  """Rules of a layer, with the prefix that its tensors' names have."""
  for rule in rules:
    yield dataclasses.replace(rule, theirs=prefix + rule.theirs, stack=stack, layer=layer)
