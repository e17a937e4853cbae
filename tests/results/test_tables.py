"""Records of runs for other programs."""

import csv
import io
import json

from t5x_style.results import run_folder, tables


def runs(write_run, train_record):
  lost = train_record(20, loss=None, not_finite={"loss": "inf"})
  one = write_run("one", [train_record(10, loss=0.1 + 0.2), lost])
  two = write_run("two", [{"step": 5, "split": "validation", "loss": 2.0, "seconds": 3}])
  return [(path.name, run_folder.read(path)) for path in (one, two)]


def test_csv_has_every_number_with_all_its_digits(write_run, train_record):
  rows = list(csv.DictReader(io.StringIO(tables.as_csv(runs(write_run, train_record)))))
  found = {(x["run"], x["split"], int(x["step"]), x["name"]): float(x["value"]) for x in rows}
  assert found["one", "train", 10, "loss"] == 0.1 + 0.2
  assert found["one", "train", 20, "loss"] == float("inf")
  assert found["one", "train", 20, "tokens"] == 10240
  assert found["two", "validation", 5, "seconds"] == 3
  assert len(rows) == len(found) == 2 * 9 + 2


def test_json_is_that_of_the_standard(write_run, train_record):
  def refuse(name):
    raise ValueError(name)

  text = tables.as_json(runs(write_run, train_record))
  one, two = json.loads(text, parse_constant=refuse)["runs"]
  assert one["curves"]["train"]["loss"]["values"] == [0.1 + 0.2, None]
  assert one["curves"]["train"]["loss"]["flops"] == [None, None]
  assert two["curves"]["validation"]["loss"]["steps"] == [5]
  assert one["settings"]["BATCH_SIZE"] == "16" and two["folder"].endswith("/two")
