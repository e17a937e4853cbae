"""Finds which kernel computes each attention of a model before anything is compiled."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from t5x_style.models import Transformer
from t5x_style.models.attention import Attention
from t5x_style.models.attention_kernels.pattern import KernelChoice
from t5x_style.partitioning import Partitioner


def attention_choices(
  model: Transformer, params: Any, batch: Mapping[str, Any], partitioner: Partitioner
) -> dict[str, KernelChoice]:
  """Traces the model on the mesh and returns {"decoder self-attention": its kernel and why}.

  Args:
    params: abstract parameters.
    batch: abstract features of one microbatch.

  Raises:
    UserError: the kernel that ATTENTION requests cannot compute an attention of the model.
  """
  found: dict[str, KernelChoice] = {}

  def note(function, args, kwargs, context):
    if isinstance(context.module, Attention) and context.method_name == "__call__":
      inputs, path = args[2], context.module.path
      window = inputs.pattern.window
      within = "" if window is None else f" within {window} tokens"
      found[f"{path[0]} {path[-1].replace('_', '-')}{within}"] = inputs.kernel
    return function(*args, **kwargs)

  with partitioner.context(), nn.intercept_methods(note):
    jax.eval_shape(
      # With dropout, as in training: not every kernel has dropout of attention weights.
      lambda params, batch: model.apply(
        {"params": params}, batch, rngs={"dropout": jax.random.key(0)}
      ),
      params,
      batch,
    )
  return found


def format_choices(choices: Mapping[str, KernelChoice]) -> str:
  """Returns "cudnn (the fastest on GPUs)", with a part for each kernel where there are several."""
  parts: dict[KernelChoice, list[str]] = {}
  for name, choice in choices.items():
    parts.setdefault(choice, []).append(name)
  words = []
  for choice, names in parts.items():
    which = f" for {', '.join(names)}" if len(parts) > 1 else ""
    words.append(f"{choice.name}{which} ({choice.reason})")
  return "; ".join(words)
