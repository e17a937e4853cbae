"""Starts a run from the parameters of a model of another architecture or another depth.

The parameters are read one by one, each process for itself, as in warm_start.py; what they begin as
is decided in adaptation.py, before any of them is read.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from t5x_style.checkpoints import reading
from t5x_style.checkpoints.adaptation import EXPERTS, Adaptation, Origin, adapt
from t5x_style.checkpoints.arrays import LazyArray, check_path, orbax_arrays
from t5x_style.checkpoints.damage import damage_is_named
from t5x_style.checkpoints.single_layers import single_layer_shapes, unrolled, unrolled_names
from t5x_style.checkpoints.warm_start import UNREADABLE, Reader, assemble, find_step
from t5x_style.errors import shortened
from t5x_style.models import TransformerConfig
from t5x_style.models.config import config_of_json
from t5x_style.models.config_differences import differences
from t5x_style.models.parameter_shapes import abstract_parameters
from t5x_style.setting_types import LayerRule
from t5x_style.training.job import InitialParameters
from t5x_style.training.state import named_leaves

# What an adaptation is for, and what has no meaning in one of two architectures.
_MAY_DIFFER = ("vocab_size", "num_encoder_layers", "num_decoder_layers", "padding_id")


class _Source(NamedTuple):
  """A checkpoint of any model.

  Attributes:
    model: its configuration, None if that is not known.
    step_dir: the step, of a run of this package.
  """

  arrays: Mapping[str, LazyArray]
  model: TransformerConfig | None
  step_dir: epath.Path | None = None


class _Plan(NamedTuple):
  source: _Source
  parts: Mapping[str, list[str]]  # a parameter of the model -> those of single layers
  adaptation: Adaptation
  report: InitialParameters


def adapted_params(
  path: str,
  config: TransformerConfig,
  own: Any,
  rule: LayerRule,
  readers: Sequence[Reader] = (),
  verify: bool = True,
) -> tuple[Any, InitialParameters]:
  """Returns the parameters that a model of another architecture or depth begins with.

  Args:
    path: as of `warm_start.initial_params`.
    config: of the model.
    own: its initial parameters, sharded. Those that are replaced are deleted one by one, so that
      the devices never hold all parameters twice.
    rule: which layers of the checkpoint are chosen; see `layer_choice.source_layers`.
    readers, verify: as of `warm_start.initial_params`.

  Raises:
    UserError: there is no complete checkpoint, it is damaged, or no rule makes its parameters
      those of the model.
  """
  with damage_is_named(UNREADABLE.format(path)):
    plan = _plan(path, config, own, rule, readers)
    if verify and plan.source.step_dir:
      reading.check_params(plan.source.step_dir)
    arrays = []
    for name, leaf in named_leaves(own).items():
      parts = plan.parts[name]
      origins = [plan.adaptation.origins[part] for part in parts]
      arrays.append(_begin(leaf, origins, stacked=parts != [name]))
    return jax.tree.unflatten(jax.tree.structure(own), arrays), plan.report


def check_adapted(
  path: str,
  config: TransformerConfig,
  abstract: Any,
  rule: LayerRule,
  readers: Sequence[Reader] = (),
) -> InitialParameters:
  """Raises what `adapted_params` would about names and shapes, and returns its report."""
  with damage_is_named(UNREADABLE.format(path)):
    return _plan(path, config, abstract, rule, readers).report


def _plan(
  path: str,
  config: TransformerConfig,
  params: Any,
  rule: LayerRule,
  readers: Sequence[Reader],
) -> _Plan:
  source = _open(path, config, readers)
  leaves = named_leaves(params)
  shapes = {name: tuple(leaf.shape) for name, leaf in leaves.items()}
  parts = unrolled_names(shapes, config.share_layers)
  wanted = single_layer_shapes(shapes, parts)
  adaptation = adapt(source.arrays, wanted, rule, config, source.model)
  lines = [
    (f"{name}[{i}]" if part != name else name, leaf.dtype.name, wanted[part], part)
    for name, leaf in leaves.items()
    for i, part in enumerate(parts[name])
  ]
  summary = _summary(path, config, source, adaptation)
  return _Plan(source, parts, adaptation, InitialParameters(summary, _report(lines, adaptation)))


def _open(path: str, config: TransformerConfig, readers: Sequence[Reader]) -> _Source:
  if "://" in path:
    check_path(path)
  for reader in readers:
    stored = reader.stored_model(path, config)
    if stored is not None:
      shapes = {name: x.shape for name, x in named_leaves(abstract_parameters(stored)).items()}
      wanted = single_layer_shapes(shapes, unrolled_names(shapes, stored.share_layers))
      return _Source(reader.read(path, stored, wanted) or {}, stored)
  step_dir = find_step(path)
  saved = orbax_arrays(step_dir / "state", "params")
  identity = reading.read_run_of_parameters(step_dir).get("identity", {})
  model = config_of_json(identity["model"], str(step_dir)) if "model" in identity else None
  shared = (model or config).share_layers
  return _Source(unrolled(saved, shared), model, step_dir)


def _begin(own: jax.Array, origins: Sequence[Origin], stacked: bool) -> jax.Array:
  """Returns what a parameter begins as; deletes `own` if that is something else."""
  if all(origin.array is None for origin in origins):
    return own
  arrays = [origin.array for origin in origins if origin.array is not None]
  shape = own.shape[1:] if stacked else own.shape
  if len(arrays) == len(origins) and all(array.shape == shape for array in arrays):
    result = assemble(own, arrays)
  else:
    result = _with_own_values(own, origins, shape)
  own.delete()
  return result


def _with_own_values(
  own: jax.Array, origins: Sequence[Origin], shape: tuple[int, ...]
) -> jax.Array:
  """Returns a parameter that keeps its own initial values where the checkpoint has none."""
  values = np.zeros((len(origins), *shape), np.float32)
  known = np.zeros((len(origins), *shape), bool)
  for i, origin in enumerate(origins):
    if origin.array is not None:
      there = tuple(slice(size) for size in origin.array.shape)
      values[i][there], known[i][there] = origin.array.read(), True
  on_devices = [
    jax.make_array_from_callback(own.shape, own.sharding, x.reshape(own.shape).__getitem__)
    for x in (known, values.astype(own.dtype))
  ]
  return jax.jit(jnp.where, out_shardings=own.sharding)(*on_devices, own)


def _summary(path: str, config: TransformerConfig, source: _Source, adaptation: Adaptation) -> str:
  origins = adaptation.origins
  new = [name for name, origin in origins.items() if origin.array is None]
  lines = [
    f"Initial parameters of {path}: {len(origins) - len(new)} of {len(origins)} from the "
    f"checkpoint, {len(new)} new, {len(adaptation.left_out)} of the checkpoint left out"
  ]
  for side, (other, layers) in adaptation.layers.items():
    lines.append(f"  {side}: layers {' '.join(map(str, layers))} of the {other}")
  if any("cross_attention" in x and "self_attention" in origins[x].used for x in origins):
    lines.append("  cross-attention: the self-attention of the same layers")
  if any(EXPERTS in x and EXPERTS not in origins[x].used for x in origins):
    lines.append("  experts: each the dense feed-forward network of the same layer")
  if new:
    lines.append(f"  new: {', '.join(_groups(new))}")
  if adaptation.left_out:
    lines.append(
      f"  left out: {', '.join(_groups(adaptation.left_out, _unused_sides(adaptation)))}"
    )
  if source.model is None:
    lines.append("  settings: the checkpoint does not hold them; only shapes were compared")
  else:
    found = differences(config, source.model)
    may_differ = _MAY_DIFFER if source.model.experts else (*_MAY_DIFFER, "experts")
    found = [line for line in found if line.partition(" ")[0] not in may_differ]
    if found:
      lines.append(f"  settings that the checkpoint was not trained with: {'; '.join(found)}")
  return "\n".join(lines)


def _unused_sides(adaptation: Adaptation) -> set[str]:
  """Returns the sides of the checkpoint that are left out as a whole, "encoder" or "decoder"."""
  sides = {name.partition("/")[0] for name in adaptation.left_out} & {"encoder", "decoder"}
  return sides - {side for side, _ in adaptation.layers.values()}


def _groups(names: Iterable[str], unused_sides: Collection[str] = ()) -> list[str]:
  """Returns names for a summary: "*" for the numbers of layers, each once, the first dozen.

  Of `unused_sides` only the side is named.
  """
  shown: dict[str, None] = {}
  for name in names:
    side = name.partition("/")[0]
    text = f"the {side}" if side in unused_sides else re.sub(r"/layers_\d+/", "/layers_*/", name)
    shown[text] = None
  return [line.strip() for line in shortened(list(shown))]


def _report(lines: Sequence[tuple[str, str, tuple[int, ...], str]], adaptation: Adaptation) -> str:
  """Returns a line for each parameter, or layer of a stacked one, and each that is left out."""
  rows = [
    (name, dtype, "x".join(map(str, shape)), adaptation.origins[part].text)
    for name, dtype, shape, part in lines
  ]
  rows += [
    ("left out:", "", "x".join(map(str, shape)), name)
    for name, shape in adaptation.left_out.items()
  ]
  width = max(len(row[0]) for row in rows)
  return "\n".join(f"{row[0]:{width}}  {row[1]:8}  {row[2]:>14}  {row[3]}" for row in rows) + "\n"
