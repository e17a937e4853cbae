"""Rules as data: which tensor of a Hugging Face model is which parameter of a Transformer.

A rule's layout names the dimensions of the tensor and, after the arrow, those of the parameter:

    (N H) D -> D N H        a torch.nn.Linear for N heads of width H
    D (P N H) -> D N H      part 1 of 3 of GPT-2's fused queries, keys and values

With the sizes of the letters, a tensor becomes a view in the shape of the parameter. Reading the
view imports, assigning to it exports.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import numpy as np

from t5x_style.models import TransformerConfig

Keys = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TensorRule:
  """The tensor, or the part of one, that holds a parameter or one layer of a stacked parameter.

  Attributes:
    parameter: its path in the model, or in the layer, joined by "/".
    tensor: the tensor's name.
    layout: "dimensions of the tensor -> dimensions of the parameter"; P counts the parts of a
      fused tensor.
    part: the index of the part that the parameter is.
    parts: how many parameters the tensor holds.
    stack: "encoder" or "decoder" where `parameter` is a path in a layer; "" otherwise.
    layer: the index of that layer.
    expert: the index of the expert whose kernel the tensor holds; None for all other parameters.
    factor: the tensor is the parameter times this. It is not 1 where this package's models have a
      step that Hugging Face's lack.
    skip: the first rows of the parameter that the tensor lacks.
  """

  parameter: str
  tensor: str
  layout: str
  part: int = 0
  parts: int = 1
  stack: str = ""
  layer: int = 0
  expert: int | None = None
  factor: float = 1.0
  skip: int = 0

  def shapes(self, sizes: Mapping[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the shape of the tensor and that of the parameter."""
    sizes = {**sizes, "P": self.parts}
    of_tensor, of_parameter = self.layout.split(" -> ")
    rows, *rest = (math.prod(sizes[x] for x in group) for group in _groups(of_tensor))
    return (rows - self.skip, *rest), tuple(sizes[x] for x in of_parameter.split())

  def view(self, tensor: np.ndarray, sizes: Mapping[str, int]) -> np.ndarray:
    """Returns the tensor, or the part of it, in the parameter's shape without rows to skip.

    Nothing is copied.
    """
    sizes = {**sizes, "P": self.parts}
    of_tensor, of_parameter = self.layout.split(" -> ")
    letters = [x for group in _groups(of_tensor) for x in group]
    view = tensor.reshape([sizes[letters[0]] - self.skip, *(sizes[x] for x in letters[1:])])
    if "P" in letters:
      view = np.moveaxis(view, letters.index("P"), 0)[self.part]
      letters.remove("P")
    return view.transpose([letters.index(x) for x in of_parameter.split()])


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
  """Returns {letter: size} of the letters that layouts use."""
  return {
    "V": config.vocab_size,
    "D": config.emb_dim,
    "O": config.emb_dim,  # the output of a map from D to D
    "E": config.table_dim,
    "N": config.num_heads,
    "K": config.kv_heads,
    "H": config.head_dim,
    "F": config.mlp_dim,
    "G": config.experts.num_experts if config.experts else 0,
    "X": (config.experts.mlp_dim if config.experts else None) or config.mlp_dim,
    "M": config.max_length + config.position_offset,
    "T": config.num_token_types,
    "R": config.relative_buckets,
    "C": config.pooled_classes,
  }


def dense(
  parameter: str, tensor: str, layout: str, bias: bool, part: int = 0, parts: int = 1
) -> Iterator[TensorRule]:
  """Yields the rules of the kernel of a linear map and, if `bias`, its bias.

  The bias has the dimensions of the output.
  """
  yield TensorRule(f"{parameter}/kernel", f"{tensor}.weight", layout, part, parts)
  if bias:
    yield TensorRule(f"{parameter}/bias", f"{tensor}.bias", _bias_layout(layout), part, parts)


def _bias_layout(layout: str) -> str:
  of_tensor, of_parameter = layout.split(" -> ")
  groups = list(_groups(of_tensor))
  # The output is the last group of a parameter: N H in "(N H) D -> D N H", D in "D (N H) -> N H D".
  last = of_parameter.split()[-1]
  out = next(group for group in groups if last in group)
  text = " ".join(out)
  return f"{f'({text})' if len(out) > 1 else text} -> {' '.join(x for x in out if x != 'P')}"


def experts(config: TransformerConfig, names: Mapping[str, str]) -> Iterator[TensorRule]:
  """Yields the rules of the kernels of a layer's experts, one tensor for each expert.

  Args:
    names: {"wi_0": the name of the tensor, with {} for the number of the expert, ...}.
  """
  assert config.experts is not None
  for expert in range(config.experts.num_experts):
    for kernel, tensor in names.items():
      layout = "D X -> X D" if kernel == "wo" else "X D -> D X"
      yield TensorRule(
        f"mlp/experts/{kernel}/kernel", f"{tensor.format(expert)}.weight", layout, expert=expert
      )


def norm(
  parameter: str, tensor: str, bias: bool, letter: str = "D", factor: float = 1.0
) -> Iterator[TensorRule]:
  """Yields the rules of the scale of a norm and, if `bias`, its bias."""
  layout = f"{letter} -> {letter}"
  yield TensorRule(f"{parameter}/scale", f"{tensor}.weight", layout, factor=factor)
  if bias:
    yield TensorRule(f"{parameter}/bias", f"{tensor}.bias", layout, factor=factor)


def logit_factor(config: TransformerConfig) -> float:
  """Returns the factor of the last norm: what this package scales its output by, else 1.

  That is 1/sqrt(D) of scale_logits, and what a tied head has of BASE_EMB_DIM.
  """
  scaled = config.tie_embeddings and config.scale_logits
  return (config.emb_dim**-0.5 if scaled else 1.0) * config.tied_logit_factor


def in_layer(
  stack: str, layer: int, prefix: str, rules: Iterator[TensorRule]
) -> Iterator[TensorRule]:
  """Yields the rules of one layer; `prefix` begins the names of its tensors."""
  for rule in rules:
    yield dataclasses.replace(rule, tensor=prefix + rule.tensor, stack=stack, layer=layer)
