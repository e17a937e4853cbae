"""Describes a run in words and tables: for the header, model-info.txt and the dry run."""

import datetime
import platform
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from t5x_style.losses import plan_chunks
from t5x_style.models import TransformerConfig
from t5x_style.models.kernel_choices import format_choices
from t5x_style.models.parameter_shapes import boxed_parameters
from t5x_style.models.transfer import transfers
from t5x_style.partitioning import describe_mesh, device_bytes, total_bytes
from t5x_style.training.dataset import tokens_per_row
from t5x_style.training.setup import Prepared
from t5x_style.training.state import named_leaves

_SIDES = {
  "encoder_decoder": "encoder-decoder",
  "decoder_only": "decoder-only",
  "encoder_only": "encoder-only",
}


def facts(prepared: Prepared, *later: Prepared) -> dict[str, str]:
  """Returns the lines of the header: {name: text}.

  Args:
    prepared: the run, or its first stage.
    later: the other stages.
  """
  config, model = prepared.config, prepared.config.model
  layers = "+".join(str(n) for n in (model.num_encoder_layers, model.num_decoder_layers) if n)
  found = {
    "model": f"{_SIDES[model.architecture]}, {prepared.num_parameters:,} parameters, "
    f"{_active(prepared)}{layers} layers, width {model.emb_dim}, {model.dtype}{_base(model)}",
    "data": prepared.dataset.description,
    "batch": _batch(prepared),
    "devices": describe_mesh(prepared.partitioner.mesh)
    + (f" (MESH_SHAPE = None: {prepared.mesh_reason})" if prepared.mesh_reason else ""),
    "attention": format_choices(prepared.attention),
    "steps": f"{config.train_steps:,}",
    "MODEL_DIR": str(prepared.model_dir),
  }
  if later:
    found["stages"] = "\n".join(map(stage_line, (prepared, *later)))
  return found


def _base(model: TransformerConfig) -> str:
  """Returns ", hyperparameters of width 128" for a model that has those of a narrower one."""
  if not transfers(model):
    return ""
  sizes = {"width": model.base_emb_dim, "heads of": model.base_head_dim, "depth": model.base_layers}
  return ", hyperparameters of " + ", ".join(f"{k} {v}" for k, v in sizes.items() if v is not None)


def stage_line(prepared: Prepared) -> str:
  """Returns "2, long rows: steps 901 to 1,000, 8 x 1024 tokens, text_files, causal_lm"."""
  stage = prepared.stage
  return (
    f"{stage.number}, {stage.name}: steps {stage.first + 1:,} to {prepared.last_step:,}, "
    f"{_batch(prepared)}, {prepared.dataset.description}"
  )


def _active(prepared: Prepared) -> str:
  active = prepared.num_active_parameters
  return f"{active:,} of them active for a token, " if prepared.config.model.experts else ""


def _batch(prepared: Prepared) -> str:
  config = prepared.config
  parts = f" in {config.num_microbatches} microbatches" if config.num_microbatches > 1 else ""
  return f"{config.batch_size} x {_lengths(prepared)} tokens{parts}"


def model_info(prepared: Prepared) -> str:
  """Returns a table of the parameters, their shapes and shardings, and the size of the state."""
  boxed_names = _logical_names(prepared)
  rows = [("parameter", "shape", "logical axes", "partition")]
  for name, leaf in named_leaves(prepared.abstract.params).items():
    shape = " x ".join(map(str, leaf.shape))
    rows.append((name, shape, ", ".join(boxed_names[name]), _spec(leaf.sharding)))
  longest = [max(map(len, column)) for column in zip(*rows, strict=True)]
  name_width, shape_width, axes_width = map(max, longest, (52, 22, 34))
  lines = [
    f"{name:<{name_width}} {shape:<{shape_width}} {axes:<{axes_width}} {partition}"
    for name, shape, axes, partition in rows
  ]
  parameters, optimizer = prepared.abstract.params, prepared.abstract.opt_state
  has_experts = prepared.config.model.experts is not None
  lines += [""]
  for name, choice in prepared.attention.items():
    lines.append(f"{name:<{name_width}} {choice.name:<{shape_width}} {choice.reason}")
  lines += [
    "",
    f"parameters            {prepared.num_parameters:>16,}",
    *([f"active for a token    {prepared.num_active_parameters:>16,}"] if has_experts else []),
    f"parameters, bytes     {_bytes(parameters)}",
    f"optimizer, bytes      {_bytes(optimizer)}",
    f"FLOPs of a step       {prepared.step_flops:>16.4g}  (3 x forward matrix products)",
    f"head and loss         {_chunks(prepared)} a device",
  ]
  return "\n".join(lines) + "\n"


def run_info(
  run: Sequence[Prepared], first_step: int, environment: Mapping[str, str], command: str
) -> dict[str, Any]:
  """Returns what MODEL_DIR/run-info.json says of the newest start of a run, as JSON.

  Args:
    run: its stages; a single one for most runs.
    first_step: where the run resumed, 0 for a new one.
    environment: {name: text}: versions of packages and XLA's flags.
    command: what started the run.
  """
  prepared, *later = run
  device = prepared.partitioner.mesh.devices.flat[0]
  machine = {
    "host": socket.gethostname(),
    "system": platform.platform(),
    "device": str(device.device_kind),
    "devices": int(prepared.partitioner.mesh.devices.size),
    "processes": jax.process_count(),
  }
  return {
    "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "first_step": first_step,
    "train_steps": prepared.config.train_steps,
    "command": command,
    "facts": facts(*run),
    "num_parameters": prepared.num_parameters,
    **_sizes(prepared),
    **({"stages": [_stage(one) for one in run]} if later else {}),
    "machine": machine,
    "environment": dict(environment),
  }


def _sizes(prepared: Prepared) -> dict[str, Any]:
  return {
    "step_flops": prepared.step_flops,
    "batch_size": prepared.config.batch_size,
    "tokens_per_row": dict(tokens_per_row(prepared.dataset.feature_shapes)),
  }


def _stage(prepared: Prepared) -> dict[str, Any]:
  stage = prepared.stage
  return {
    "name": stage.name,
    "first_step": stage.first,
    "last_step": prepared.last_step,
    "data": prepared.dataset.description,
    **_sizes(prepared),
  }


def batch_info(prepared: Prepared) -> str:
  """Returns a table of the features of a global batch, and the beginning of its first row."""
  lines = [f"{'feature':<28} {'shape':<16} {'dtype':<10} partition"]
  for name, x in prepared.batch.items():
    shape = " x ".join(map(str, x.shape))
    lines.append(f"{name:<28} {shape:<16} {x.dtype!s:<10} {_spec(x.sharding)}")
  batch = next(prepared.dataset.train())
  for name, value in batch.items():
    if name.endswith("_tokens"):
      lines += ["", f"{name}, the first row:", prepared.dataset.decode(value[0][:64])]
  weights = batch[f"{prepared.loss.side}_loss_weights"]
  share = float((weights > 0).mean())
  lines += ["", f"{int((weights > 0).sum()):,} target tokens carry loss, {share:.1%} of positions"]
  return "\n".join(lines) + "\n"


def _lengths(prepared: Prepared) -> str:
  return " + ".join(map(str, tokens_per_row(prepared.dataset.feature_shapes).values()))


def _logical_names(prepared: Prepared) -> dict[str, tuple[str, ...]]:
  boxed = boxed_parameters(prepared.loss.model.config)
  boxes = named_leaves(boxed, is_leaf=lambda x: isinstance(x, nn.Partitioned))
  return {name: tuple(map(str, box.names)) for name, box in boxes.items()}


def _spec(sharding) -> str:
  axes = [x if isinstance(x, str) else "+".join(x) if x else "-" for x in sharding.spec]
  return " x ".join(axes) if any(x != "-" for x in axes) else "replicated"


def _bytes(arrays: Any) -> str:
  return f"{total_bytes(arrays):>16,}  ({device_bytes(arrays):,} a device)"


def _chunks(prepared: Prepared) -> str:
  model, dataset = prepared.config.model, prepared.dataset
  rows, length = dataset.feature_shapes[f"{prepared.loss.side}_target_tokens"].shape
  shape = (rows // prepared.config.num_microbatches, dataset.max_targets or length, model.emb_dim)
  with prepared.partitioner.context():
    return str(plan_chunks(shape, model.vocab_size, model.dtype))
