"""Run by tests on eight simulated devices: the collectives of a training step, as JSON.

Arguments: architecture, mesh, remat, MODEL_DIR, experts.
"""

import functools
import json
import sys

from t5x_style.models import Experts, TransformerConfig
from t5x_style.planning import collectives, hlo
from t5x_style.training import optimizers, schedules, setup, synthetic, train_config
from t5x_style.training.step import compile_step

LAYERS, LENGTH, ROWS = 3, 32, 16
EXPERTS = {"num_experts": 8, "experts_per_token": 2}
CONFIG = {"vocab_size": 384, "emb_dim": 64, "num_heads": 8, "head_dim": 16, "mlp_dim": 192}


def a_config(architecture, mesh, remat, folder, experts=None):
  """Returns a small run.

  Args:
    experts: None for dense layers, 0 for experts that drop nothing, or their capacity.
  """
  layers = {
    "decoder_only": {"num_decoder_layers": LAYERS, "positions": "rotary"},
    "encoder_only": {"num_encoder_layers": LAYERS, "positions": "learned"},
  }[architecture]
  if experts is not None:
    layers["experts"] = Experts(**EXPERTS, capacity_factor=experts or None)
  lengths = {"inputs": LENGTH, "targets": LENGTH}
  return train_config.TrainConfig(
    model=TransformerConfig(**CONFIG, **layers, remat=remat),
    dataset=functools.partial(synthetic.load, feature_lengths=lengths, vocab_size=384),
    optimizer=optimizers.adamw,
    schedule=schedules.constant(1e-3),
    model_dir=str(folder),
    train_steps=1,
    batch_size=ROWS,
    mesh_shape=mesh,
  )


def collectives_on(on_eight_devices, architecture, mesh, remat, folder, experts=None):
  """Returns the collectives of a step that a process with eight devices compiles."""
  arguments = (architecture, json.dumps(mesh), remat, str(folder), json.dumps(experts))
  lines = on_eight_devices(__file__, *arguments)
  found = [collectives.Collective(**one) for one in json.loads(lines[-1])]
  return [
    one._replace(shapes=tuple((dtype, tuple(sizes)) for dtype, sizes in one.shapes))
    for one in found
  ]


def main():
  architecture, mesh, remat, folder, experts = sys.argv[1:]
  config = a_config(architecture, json.loads(mesh), remat, folder, json.loads(experts))
  prepared = setup.prepare(config)
  program = hlo.parse(compile_step(prepared).as_text())
  found = collectives.read(program, list(prepared.partitioner.mesh.devices.flat))
  print(json.dumps([one._asdict() for one in found]))


if __name__ == "__main__":
  main()
