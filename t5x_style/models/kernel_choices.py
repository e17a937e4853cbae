"""Which kernel computes each attention of a run, known before anything is compiled."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from t5x_style.models import Transformer
from t5x_style.models.attention import Attention
from t5x_style.models.attention_kernels.choice import Choice
from t5x_style.partitioning import Partitioner


def attention_choices(
  model: Transformer, params: Any, batch: Mapping[str, Any], partitioner: Partitioner
) -> dict[str, Choice]:
  """{"decoder self-attention": its kernel and why}, by tracing the model on the mesh.

  Args:
    params, batch: abstract ones; the batch of one microbatch.

  Raises:
    UserError: ATTENTION asks for a kernel that cannot do what the model needs.
  """
  found: dict[str, Choice] = {}

  def note(function, args, kwargs, context):
    if isinstance(context.module, Attention) and context.method_name == "__call__":
      scope, path = args[2], context.module.path
      window = scope.pattern.window
      within = "" if window is None else f" within {window} tokens"
      found[f"{path[0]} {path[-1].replace('_', '-')}{within}"] = scope.kernel
    return function(*args, **kwargs)

  with partitioner.context(), nn.intercept_methods(note):
    jax.eval_shape(lambda params, batch: model.apply({"params": params}, batch), params, batch)
  return found


def describe(choices: Mapping[str, Choice]) -> str:
  """ "cudnn (the fastest on GPUs)", or a part for each kernel."""
  parts: dict[Choice, list[str]] = {}
  for name, choice in choices.items():
    parts.setdefault(choice, []).append(name)
  words = []
  for choice, names in parts.items():
    which = f" for {', '.join(names)}" if len(parts) > 1 else ""
    words.append(f"{choice.name}{which} ({choice.reason})")
  return "; ".join(words)
