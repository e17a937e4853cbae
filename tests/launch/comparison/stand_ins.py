"""Programs that behave as launch.train and those of launch.comparison do, within milliseconds."""

import os
import textwrap

TRAIN = """
  import ast, json, pathlib, sys, time
  bindings = [x.partition("=")[2] for x in sys.argv if x.startswith("--gin_bindings=")]
  given = {k.strip(): v.strip() for k, _, v in (x.partition("=") for x in bindings)}
  read = lambda name: ast.literal_eval(given[name])
  folder = pathlib.Path(read("MODEL_DIR"))
  folder.mkdir(parents=True, exist_ok=True)
  metrics = folder / "metrics.jsonl"
  text = metrics.read_text() if metrics.exists() else ""
  lines = [line for line in text.splitlines() if '"validation"' in line]
  with (folder / "starts").open("a") as file:
    file.write(f"{len(lines)} {read('TRAIN_STEPS')} {given.get('SCHEDULE_STEPS')}\\n")
  (folder / "run-info.json").write_text(json.dumps({"step_flops": 1e9}))
  rate = float(given["RATE"])
  if rate < 0:
    sys.exit(print("error: RATE is negative", file=sys.stderr) or 2)
  for step in range(len(lines) + 1, read("TRAIN_STEPS") + 1):
    while step > 3 and "HOLD" in given and pathlib.Path(read("HOLD")).exists():
      time.sleep(0.02)
    record = {"step": step, "tokens": 8 * step, "loss": 5 - rate * step, "seconds": step * 0.5}
    with metrics.open("a") as file:
      for split in ("train", "validation"):
        file.write(json.dumps(record | {"split": split}) + "\\n")
"""
JUDGE = """
  import json, pathlib, sys
  folder = pathlib.Path(sys.argv[1])
  output = pathlib.Path(next(x for x in sys.argv if x.startswith("--output=")).partition("=")[2])
  last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
  seed = int(folder.name[-1])
  value = {"value": (6 - last["loss"]) / 10 + seed / 1000, "method": "By a stand-in."}
  value |= {"reason": "", "standard_error": 0.001, "count": 7}
  none = {"value": None, "reason": "there is none", "method": "", "standard_error": None}
  hole = {"before": "a", "truth": "<b>", "after": "c", "filling": folder.name}
  passage = {"passage": 0, "prompt": "p", "truth": "t", "continuation": None, "hole": hole}
  measures = {"choice_of_four": value, "completion": none | {"count": None}}
  judged = {"model_dir": str(folder), "step": last["step"], "measures": measures}
  given = lambda name: [x.partition("=")[2] for x in sys.argv if x.startswith(f"--{name}=")]
  judged["asked"] = {
    "pairs_file": (given("pairs_file") or [None])[0],
    "classification": given("classification"),
    "classification_steps": int((given("classification_steps") or [0])[0]) or None,
  }
  output.write_text(json.dumps(judged | {"passages": [passage]}))
"""
DESCRIBE = """
  import json, pathlib, sys
  from absl import flags as absl_flags
  from launch.comparison import arguments, gin_settings
  from launch.configuration import flags
  def define(values):
    flags.define_data(values)
    for name in ("output", "passages"):
      absl_flags.DEFINE_string(name, None, "", flag_values=values)
    absl_flags.DEFINE_multi_string("data_figures", [], "", flag_values=values)
  values, _ = flags.parse_own(sys.argv, about="", examples="", define=define)
  given = arguments.Given.of_flags(values)
  comparison = gin_settings.read(given)
  facts = {
    name: {
      "architecture": "decoder_only", "description": "text", "row": {"decoder_length": 8},
      "batch_size": 2, "parameters": 10, "parameters_without_vocabulary": 5, "state_bytes": 120,
      "step_flops": 1e9, "step_positions": 16, "identity": {"corpus": {"name": "text"}},
      "schedule_has_steps": True, "settings": {"given": repr(entries)},
    }
    for name, entries in comparison.candidates.items()
  }
  shares = {"signal_density": 0.15, "filled": 0.5, "text": 0.4}
  measured = dict.fromkeys(values.data_figures, shares)
  output = {"candidates": facts, "machine": {"cores": 2}, "data": measured}
  pathlib.Path(values.output).write_text(json.dumps(output))
"""

COMPARE = """
  from __gin__ import dynamic_registration
  from t5x_style.comparison import settings
  CANDIDATES = {"slow": ("RATE = 0.1",), "fast": ("RATE = 0.2",), "Worst <i>": ("RATE = 0.01",)}
  SEEDS = (0, 1)
  HALVE_BY = None
  settings.Comparison:
    candidates = %CANDIDATES
    seeds = %SEEDS
    halve_by = %HALVE_BY
    amount = 8e9
    compare_dir = %COMPARE_DIR
"""


def package(folder):
  """Writes the package `acts` with these programs, and compare.gin, into a folder."""
  files = {
    "acts/__init__.py": "",
    "acts/train.py": TRAIN,
    "acts/comparison/__init__.py": "",
    "acts/comparison/judge.py": JUDGE,
    "acts/comparison/describe.py": DESCRIBE,
    "compare.gin": f"# A comparison.\n{textwrap.dedent(COMPARE)}",
  }
  for name, text in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
  return f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"
