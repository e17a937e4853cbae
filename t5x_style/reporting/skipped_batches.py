"""Saves the batches of skipped steps, with their text: often the data shows what went wrong."""

import json
import warnings

import jax
from etils import epath

from t5x_style.errors import first_line
from t5x_style.training.dataset import Batch, Dataset


def save(model_dir: epath.Path, step: int, reason: str, batch: Batch, dataset: Dataset) -> None:
  """Writes MODEL_DIR/skipped_batches/STEP-PROCESS.jsonl: one JSON object for each row.

  {"step": 33, "reason": "...", "row": 0, "decoder_input_tokens": [5, 8, ...],
  "decoder_input_text": "...", ...}. A file that cannot be written is only a warning.

  Args:
    batch: the rows of this process, {feature: [rows, length]}.
  """
  index = jax.process_index()
  path = model_dir / "skipped_batches" / f"{step}-{index}.jsonl"
  lines = []
  for row in range(len(next(iter(batch.values())))):
    line = {"step": step, "reason": reason, "row": row}
    for name, values in batch.items():
      line[name] = values[row].tolist()
      if name.endswith("_tokens"):
        line[f"{name.removesuffix('_tokens')}_text"] = dataset.decode(values[row])
    lines.append(json.dumps(line) + "\n")
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
  except Exception as error:  # Errors of buckets are no OSErrors.
    warnings.warn(f"the batch of step {step} was not saved: {first_line(error)}", stacklevel=2)
