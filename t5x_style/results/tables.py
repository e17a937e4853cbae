"""The records of runs as CSV and JSON, for other programs."""

import csv
import io
import json
import math
from collections.abc import Sequence

from t5x_style.results.run_charts import Named


def as_csv(named: Sequence[Named]) -> str:
  """Returns a line for each number of each record: run, split, step, name, value.

  Values that are not finite are nan, inf or -inf.
  """
  written = io.StringIO()
  rows = csv.writer(written, lineterminator="\n")
  rows.writerow(("run", "split", "step", "name", "value"))
  for name, run in named:
    for split in run.splits():
      for metric in (*run.names(split), "tokens", "seconds"):
        curve = run.curve(split, metric)
        if curve is not None:
          for step, value in zip(curve.steps, curve.values, strict=True):
            rows.writerow((name, split, int(step), metric, repr(float(value))))
  return written.getvalue()


def as_json(named: Sequence[Named]) -> str:
  """Returns {"runs": [{"name", "folder", "curves": {split: {name: {...}}}, "info", "settings"}]}.

  A curve is {"steps", "values", "tokens", "flops", "seconds"}, lists of one length; null is a value
  that is not finite or not known.
  """
  runs = [
    {
      "name": name,
      "folder": str(run.folder),
      "curves": {
        split: {
          metric: {
            key: [x if math.isfinite(x) else None for x in values.tolist()]
            for key, values in vars(curve).items()
          }
          for metric in run.names(split)
          if (curve := run.curve(split, metric)) is not None
        }
        for split in run.splits()
      },
      "info": run.info,
      "settings": run.settings,
    }
    for name, run in named
  ]
  return json.dumps({"runs": runs}, allow_nan=False) + "\n"
