"""Tiny runs on random tokens, for tests of everything around a model. They take seconds."""

import functools
import json

from t5x_style.checkpoints import restoring
from t5x_style.models import TransformerConfig
from t5x_style.reporting import reporter, terminal
from t5x_style.training import loop, optimizers, schedules, setup, synthetic, train_config

FAMILIES = {
  "encoder_decoder": {"num_encoder_layers": 1, "num_decoder_layers": 1},
  "decoder_only": {"num_decoder_layers": 2, "positions": "rotary"},
  "encoder_only": {"num_encoder_layers": 2, "positions": "rotary", "head_bias": True},
}


def config(architecture, model_dir, **changes):
  """Returns the TrainConfig of four steps on random tokens.

  Args:
    architecture: a key of FAMILIES.
    model_dir: where the run writes.
    **changes: values of TrainConfig's fields; model={...} holds those of TransformerConfig's.
  """
  model = TransformerConfig(
    **{
      "vocab_size": 96,
      "emb_dim": 32,
      "num_heads": 2,
      "head_dim": 16,
      "mlp_dim": 64,
      **FAMILIES[architecture],
      **changes.pop("model", {}),
    }
  )
  load = functools.partial(
    synthetic.load, feature_lengths={"inputs": 16, "targets": 8}, vocab_size=96
  )
  return train_config.TrainConfig(
    **{
      "model": model,
      "dataset": load,
      "optimizer": optimizers.adamw,
      "schedule": schedules.constant(3e-3),
      "model_dir": str(model_dir),
      "train_steps": 4,
      "batch_size": 8,
      "eval_batches": 2,
      "log_period": 1,
      **changes,
    }
  )


def train(config, show=False):
  """Trains, or resumes, as `launch.train` does."""
  job = restoring.open_run(setup.prepare(config))
  out = terminal.Terminal(enabled=show)
  return loop.train(job, reporter.RunReporter(job.prepared, job.first_step, out))


def records(model_dir, split="train"):
  """Returns the records of metrics.jsonl, without measured times."""
  lines = (model_dir / "metrics.jsonl").read_text().splitlines()
  timed = ("seconds", "tokens_per_second", "data_wait")
  parsed = [json.loads(line) for line in lines]
  assert all(0 <= record["data_wait"] < 1 for record in parsed if record["split"] == "train")
  return [
    {k: v for k, v in record.items() if k not in timed}
    for record in parsed
    if record["split"] == split
  ]
