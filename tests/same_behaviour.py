"""Records what this repository computes and shows, to check that a refactoring changes nothing.

    python tests/same_behaviour.py record /tmp/before                      before the change
    python tests/same_behaviour.py record /tmp/after --resume=/tmp/before  after the change
    python tests/same_behaviour.py compare /tmp/before /tmp/after

A record holds losses and a hash of every parameter and optimizer array of seven runs of 20 steps,
the preview of every objective, and the help text of every command. Losses, arrays and previews
have to be equal to the bit; differences between help texts are only printed. With --resume, runs
also resume from step 10 of the earlier record, which shows that its checkpoints can be restored.
The memory of the runs of gin_configs/pods/ is not recorded: tests/launch/test_pods.py compares it
with tests/launch/hbm_per_chip.json.

Run it from the root of the working tree that is recorded. Make both records on the same machine
with the same packages; a record takes about five minutes on two cores.
"""

import argparse
import concurrent.futures
import difflib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COMMANDS = (
  "train",
  "preflight",
  "preview",
  "convert",
  "precompile",
  "tokenizer",
  "benchmark",
  "cache",
  "checkpoint",
  "cloud",
  "compare",
  "eval",
  "gin_from_t5x",
  "infer",
  "report",
  "certify",
  "where",
)
STEPS, MIDDLE = 20, 10
# Entries of metrics.jsonl that depend on the speed of the machine.
TIMES = ("tokens_per_second", "data_wait", "seconds", "mfu")
# Entries of a preview that do not depend on the speed of the machine; the others are measured on as
# many rows as there is time for.
FIXED = ("architecture", "feature_lengths", "objective", "examples", "components", "name", "rate")

SMALL = """
TRAIN_STEPS = 20
BATCH_SIZE = 8
EVAL_PERIOD = 10
SAVE_PERIOD = 10
LOG_PERIOD = 5
EVAL_BATCHES = 2
WARMUP_STEPS = 5
VOCAB_SIZE = 8320
SHUFFLE_BUFFER_SIZE = 256
"""
SIZES = (
  "config.TransformerConfig:\n  emb_dim = 64\n  num_heads = 4\n  head_dim = 16\n  mlp_dim = 96\n"
)
ENCODER, DECODER = "  num_encoder_layers = 2\n", "  num_decoder_layers = 2\n"

# name -> (shipped gin files, more settings, devices)
RUNS: Mapping[str, tuple[tuple[str, ...], str, int]] = {
  "quickstart": (("quickstart.gin",), "", 1),
  "quickstart_causal_lm": (("quickstart_causal_lm.gin",), "", 1),
  "quickstart_masked_lm": (("quickstart_masked_lm.gin",), "", 1),
  "t5": (
    ("runs/t5.gin", "models/t5_1_1/small.gin", "objectives/span_corruption.gin"),
    'TASK_FEATURE_LENGTHS = {"inputs": 64}\nNUM_MICROBATCHES = 2\nLABEL_SMOOTHING = 0.1\n'
    "DROPOUT_RATE = 0.1\n" + SIZES + ENCODER + DECODER,
    1,
  ),
  "bert": (
    ("runs/pretrain.gin", "models/bert/base.gin", "objectives/next_sentence.gin"),
    'TASK_FEATURE_LENGTHS = {"inputs": 64}\nREMAT = "full"\n' + SIZES + ENCODER,
    1,
  ),
  "gpt2": (
    ("runs/pretrain.gin", "models/gpt2/small.gin", "objectives/ul2.gin"),
    'TASK_FEATURE_LENGTHS = {"inputs": 64}\nLOSS_NORMALIZING_FACTOR = "AVERAGE_PER_SEQUENCE"\n'
    'MESH_SHAPE = {"data": 2, "fsdp": 2, "tensor": 2}\n' + SIZES + DECODER,
    8,
  ),
  "llama": (
    ("runs/pretrain.gin", "models/llama3/1b.gin", "objectives/causal_lm.gin"),
    'TASK_FEATURE_LENGTHS = {"targets": 64}\nDTYPE = "bfloat16"\nZ_LOSS = 0.001\n'
    + SIZES
    + "  num_kv_heads = 2\n"
    + DECODER,
    1,
  ),
}
DATA = "data/python_stdlib.gin"
MODELS = {
  "encoder_decoder": "models/encoder_decoder_mini.gin",
  "decoder_only": "models/decoder_only_mini.gin",
  "encoder_only": "models/encoder_only_mini.gin",
}


def command(name: str, *words: str, devices: int = 1) -> str:
  """Runs launch.NAME of the working tree and returns its standard output.

  Raises:
    RuntimeError: the command failed.
  """
  environment = os.environ | {"COLUMNS": "100", "JAX_PLATFORMS": "cpu"}
  environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
  process = subprocess.run(
    [sys.executable, "-m", f"launch.{name}", *words],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  if process.returncode:
    raise RuntimeError(f"launch.{name} {' '.join(words)}: {process.stdout}\n{process.stderr}")
  return process.stdout


def train(folder: Path, name: str, model_dir: Path) -> dict[str, Any]:
  """Trains or resumes a run in `model_dir`; returns its losses and a hash of each saved array."""
  files, settings, devices = RUNS[name]
  small = SMALL
  if name.startswith("quickstart"):
    small = SMALL.replace("VOCAB_SIZE = 8320\n", "")
  else:
    files = (*files[:2], DATA, *files[2:])
  includes = "".join(f"include '{file}'\n" for file in files)
  if "config." in settings:
    includes += "from __gin__ import dynamic_registration\nfrom t5x_style.models import config\n"
  # Not the name of a shipped file: an include would find it in place of the shipped one.
  own = folder / f"run_{model_dir.name}.gin"
  own.write_text(f"{includes}{small}{settings}MODEL_DIR = {str(model_dir)!r}\n")
  command("train", f"--gin_file={own}", devices=devices)
  records = [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]
  losses = [{k: v for k, v in record.items() if k not in TIMES} for record in records]
  return {"losses": losses, "arrays": hashes(model_dir / "checkpoints" / str(STEPS) / "state")}


def hashes(state: Path) -> dict[str, str]:
  """Returns {path of a saved array: its shape, dtype and a hash of its bytes}."""
  import jax
  import numpy as np
  import orbax.checkpoint as ocp

  checkpointer = ocp.PyTreeCheckpointer()
  names = checkpointer.metadata(state).item_metadata.tree
  as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), names)
  tree = checkpointer.restore(state, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
  found = {}
  for path, array in jax.tree_util.tree_flatten_with_path(tree)[0]:
    digest = hashlib.sha256(jax.device_get(array).tobytes()).hexdigest()[:16]
    found[jax.tree_util.keystr(path)] = f"{array.shape} {array.dtype} {digest}"
  return found


def preview(folder: Path, objective: str, architecture: str) -> dict[str, Any]:
  """Returns the examples that an objective makes of the standard library, and its components."""
  own = folder / f"preview_{objective}_{architecture}.gin"
  includes = ("runs/quickstart.gin", MODELS[architecture], DATA, f"objectives/{objective}.gin")
  own.write_text("".join(f"include '{file}'\n" for file in includes) + "MODEL_DIR = '/nowhere'\n")
  pairs = ["--gin.config.TransformerConfig.pooled_classes=2"]
  pairs += ["--gin.config.TransformerConfig.num_token_types=2"]
  words = [f"--gin_file={own}", "--json", "--seconds=0.1", "--examples=2"]
  return _fixed(
    json.loads(command("preview", *words, *(pairs if "encoder_only" in architecture else [])))
  )


def _fixed(value: Any) -> Any:
  """Returns a preview with "measured" in place of what depends on the speed of the machine."""
  if isinstance(value, list):
    return [_fixed(x) for x in value]
  if not isinstance(value, dict) or not set(value) & {"objective", "examples"}:
    return value
  return {k: _fixed(v) if k in FIXED else "measured" for k, v in value.items()}


def record(folder: Path, earlier: Path | None) -> None:
  """Writes FOLDER/behaviour.json; the MODEL_DIRs of the runs are kept beside it.

  Args:
    folder: a new folder.
    earlier: the folder of a record; copies of its runs are resumed from step 10.
  """
  folder.mkdir(parents=True)
  runs = {name: (name, folder / name) for name in RUNS}
  for name in RUNS if earlier else ():
    resumed = folder / f"{name}_resumed"
    shutil.copytree(earlier / name, resumed)
    shutil.rmtree(resumed / "checkpoints" / str(STEPS))
    runs[f"{name}_resumed"] = (name, resumed)
  objectives = []
  for path in sorted(Path("gin_configs/objectives").glob("*.gin")):
    first_line = path.read_text().splitlines()[0]
    objectives += [
      (path.stem, architecture) for architecture in MODELS if architecture in first_line
    ]
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    trained = {key: pool.submit(train, folder, *run) for key, run in runs.items()}
    previews = {f"{o} {a}": pool.submit(preview, folder, o, a) for o, a in objectives}
    helps = {name: pool.submit(command, name, "--help") for name in COMMANDS}
    futures = {"runs": trained, "previews": previews, "help": helps}
    results = {k: {name: f.result() for name, f in group.items()} for k, group in futures.items()}
  (folder / "behaviour.json").write_text(json.dumps(results, indent=1))


def compare(before: Path, after: Path) -> int:
  """Prints all differences; returns 1 if losses, arrays or previews differ, 0 otherwise."""
  old, new = (json.loads((folder / "behaviour.json").read_text()) for folder in (before, after))
  different = False
  for kind in ("runs", "previews"):
    resumed = {f"{name}_resumed": value for name, value in old[kind].items() if kind == "runs"}
    expected = old[kind] | {name: value for name, value in resumed.items() if name in new[kind]}
    for name in sorted({*expected, *new[kind]}):
      same = expected.get(name) == new[kind].get(name)
      different |= not same
      print(f"{kind:<9} {name:<40} {'equal' if same else 'DIFFERENT'}")
      if not same:
        texts = [json.dumps(x.get(name), indent=1).splitlines() for x in (expected, new[kind])]
        print("\n".join(list(difflib.unified_diff(*texts, n=0, lineterm=""))[:20]))
  for name in COMMANDS:
    texts = [x["help"].get(name, "").splitlines() for x in (old, new)]
    print("\n".join(difflib.unified_diff(*texts, name, name, n=0, lineterm="")), end="")
  return int(different)


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  actions = parser.add_subparsers(dest="action", required=True)
  recording = actions.add_parser("record", help="run the working tree and write a record")
  recording.add_argument("folder", type=Path, help="a new folder for the record")
  recording.add_argument("--resume", type=Path, help="a record whose runs are resumed as well")
  comparing = actions.add_parser("compare", help="print what differs between two records")
  comparing.add_argument("before", type=Path)
  comparing.add_argument("after", type=Path)
  values = parser.parse_args()
  if values.action == "compare":
    return compare(values.before, values.after)
  record(values.folder.absolute(), values.resume and values.resume.absolute())
  return 0


if __name__ == "__main__":
  sys.exit(main())
