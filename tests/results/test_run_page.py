"""The page of runs holds the figures of their records, and text as it was written."""

import json
import re
from html import unescape

from t5x_style.results import run_folder, run_page

COMMAND = "python -m launch.report /x"


def page_of(*folders):
  page, _ = run_page.page([run_folder.read(x) for x in folders], 1e9, COMMAND)
  return page.html()


def cells(page, heading):
  """Returns the rows of the first table after a heading."""
  table = re.search(rf">{heading}</h[23]>.*?<table>(.*?)</table>", page, re.DOTALL).group(1)
  rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
  return [[unescape(x) for x in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]


def evaluation(step, loss):
  return {"step": step, "split": "validation", "loss": loss, "accuracy": loss / 10}


def test_a_page_of_one_run(write_run, train_record):
  records = [train_record(10), evaluation(10, 2.3456), train_record(20), evaluation(20, 1.2344)]
  info = {"machine": {"device": "a chip", "devices": 16}, "environment": {"version of jax": "1.2"}}
  folder = write_run("my run", records, run_info__json=info)
  page = page_of(folder)
  assert "<h1>Report of my run</h1>" in page
  assert f"Written on 2001-09-09 01:46 UTC by: {COMMAND}" in page
  assert cells(page, "Evaluations")[1:] == [["10", "2.346", "23.5%"], ["20", "1.234", "12.3%"]]
  assert ["validation loss", "1.234"] in cells(page, "Summary")
  assert ["version of jax", "1.2"] in cells(page, "Environment")
  assert unescape(page).count((folder / "config.gin").read_text()) == 1
  assert "Settings that differ" not in page and "cannot be compared" not in page


def test_runs_beside_each_other(write_run, train_record):
  config = "BATCH_SIZE = 16\nOBJECTIVE = @a()\n"
  other = "BATCH_SIZE = 32\nOBJECTIVE = @b()\nNAMES = {'<x>': 1}\n"
  one = write_run("one", [train_record(10)], config)
  two = write_run("two", [train_record(10, loss=1.0), evaluation(10, 1.5)], other)
  page = page_of(one, two)
  assert "<h1>Report of 2 runs</h1>" in page
  assert cells(page, "Settings that differ") == [
    ["setting", "one", "two"],
    ["BATCH_SIZE", "16", "32"],
    ["OBJECTIVE", "@a()", "@b()"],
    ["NAMES", "–", "{'<x>': 1}"],
  ]
  assert "cannot be compared with each other" in page
  assert ["training loss", "0.800", "1.000"] in cells(page, "Summary")
  assert page_of(one, write_run("three", [train_record(10)], config)).count("MODEL_DIR.</p>") == 1


def test_a_run_that_has_no_record_yet(write_run):
  page = page_of(write_run(records=[]))
  assert "No metrics have been recorded yet." in page and "<svg" not in page


def test_what_is_wrong_with_the_records_is_said(write_run, train_record):
  folder = write_run(records=[train_record(10, loss=None, not_finite={"loss": "nan"})])
  with (folder / "metrics.jsonl").open("a") as file:
    file.write("damaged\n")
  (folder / "skipped_batches").mkdir()
  (folder / "skipped_batches/7-0.jsonl").write_text('{"step": 7, "reason": "not finite: <loss>"}\n')
  page = page_of(folder)
  assert "lines of metrics.jsonl that are no records, and were left out: 1." in page
  assert "loss (training) at step 10: nan" in page
  assert ["7", "not finite: <loss>"] in cells(page, "Skipped steps and spikes")


def test_files_that_hold_something_else_break_nothing(write_run):
  odd = {"step_flops": "x", "facts": [1], "machine": 3, "train_steps": {}, "environment": None}
  record = {"step": 1, "split": "train", "loss": "text", "skipped_steps": "many", "tokens": "x"}
  folder = write_run(records=[record], run_info__json=odd, heartbeat__json={"written_time": "x"})
  (folder / "samples.jsonl").write_text('{"step": 1, "sample": {}}\n{"step": "x"}\n')
  assert "unknown: the run has written no heartbeat.json" in page_of(folder)


def test_samples_show_what_changed(write_run):
  folder = write_run()
  for step in range(1, 8):
    texts = {"hole <1>": f"the <text>\ntruth a\nmodel {step * 'x'}", "note": "same"}
    with (folder / "samples.jsonl").open("a") as file:
      file.write(json.dumps({"step": step, "sample": texts}) + "\n")
  page = page_of(folder)
  assert page.count("the &lt;text&gt;\ntruth a") == 1 and page.count("<pre>same</pre>") == 1
  models = re.findall(r"<h4>step (\d)</h4><pre>model (x+)</pre>", page)
  assert [(int(step), len(text)) for step, text in models] == [(n, n) for n in range(3, 8)]
