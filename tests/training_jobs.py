"""Runs of launch.train in several real processes of this machine, which are one job."""

import json
import os
import socket
import subprocess
import sys
import time

GIN = """
from __gin__ import dynamic_registration
from t5x_style.models import config
from t5x_style.training import optimizers
from t5x_style.training import train_config
from t5x_style.training import schedules
from t5x_style.training import synthetic

TRAIN_STEPS = 6
EVAL_PERIOD = 3
SAVE_PERIOD = 2
BATCH_SIZE = 16
MESH_SHAPE = None
DCN_MESH_SHAPE = None
MODEL_DIR = None

train_config.TrainConfig:
  model = @config.TransformerConfig()
  dataset = @synthetic.load
  optimizer = @optimizers.adamw
  schedule = @schedules.constant()
  model_dir = %MODEL_DIR
  train_steps = %TRAIN_STEPS
  batch_size = %BATCH_SIZE
  eval_period = %EVAL_PERIOD
  eval_batches = 2
  save_period = %SAVE_PERIOD
  log_period = 1
  mesh_shape = %MESH_SHAPE
  dcn_mesh_shape = %DCN_MESH_SHAPE
schedules.constant.peak = 0.002
synthetic.load:
  feature_lengths = {"targets": 8}
  vocab_size = 96
config.TransformerConfig:
  vocab_size = 96
  emb_dim = 32
  num_heads = 4
  head_dim = 8
  mlp_dim = 64
  num_decoder_layers = 1
  positions = "rotary"
  dropout_rate = 0.1
"""
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def free_port():
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


class Job:
  """`python -m launch.train` in several processes."""

  def __init__(
    self, folder, *arguments, processes=1, devices=1, gin=GIN, environ=None, only_last=()
  ):
    """Starts them; `only_last` are arguments of the last process alone."""
    folder.mkdir(exist_ok=True)
    (folder / "run.gin").write_text(gin)
    self.outputs = [folder / f"output{i}.txt" for i in range(processes)]
    flags = f"--xla_force_host_platform_device_count={devices} {FLAGS}"
    port = free_port()
    self.processes = []
    for index, output in enumerate(self.outputs):
      command = [sys.executable, "-m", "launch.train", f"--gin_file={folder / 'run.gin'}"]
      command += [f"--gin.MODEL_DIR='{folder / 'model'}'", *arguments]
      if processes > 1 and not environ:
        command += [f"--coordinator_address=localhost:{port}", f"--process_count={processes}"]
        command += [f"--process_index={index}"]
      command += only_last if index == processes - 1 else ()
      own = environ(index, port) if environ else {}
      with output.open("w") as out:
        self.processes.append(
          subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags} | own,
          )
        )

  def wait(self, timeout=500):
    """Returns the exit codes of the processes; kills those that are left."""
    deadline = time.monotonic() + timeout
    try:
      return [p.wait(max(1, deadline - time.monotonic())) for p in self.processes]
    finally:
      for process in self.processes:
        process.kill()

  def texts(self):
    return [output.read_text() for output in self.outputs]


def ended(job):
  return any(process.poll() for process in job.processes)


def finish(folder, *arguments, **settings):
  job = Job(folder, *arguments, **settings)
  codes = job.wait()
  assert codes == [0] * len(codes), job.texts()
  return job.texts()


def losses(folder):
  lines = (folder / "model/metrics.jsonl").read_text().splitlines()
  return {(r["split"], r["step"]): r["loss"] for r in map(json.loads, lines)}


def until(condition, timeout=300):
  deadline = time.monotonic() + timeout
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def saved(folder):
  path = folder / "model/checkpoints"
  return sorted(int(p.name) for p in path.iterdir() if p.name.isdigit()) if path.exists() else []
