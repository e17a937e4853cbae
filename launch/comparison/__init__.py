"""What launch.compare does: it plans, starts the runs, has them judged, and writes the report.

  gin_settings.py, arguments.py   what the gin files request, and the command line of each run
  describe.py                     a process: builds all runs without training, cuts the passages
  record.py, plan_table.py        comparison.json; the plan as a text
  rounds.py, run_job.py           which runs are trained and judged, in which order
  processes.py, progress.py       the processes of the runs, and what the terminal shows
  judge.py and its modules        a process: what is measured of a run
  results.py, curves.py, report.py   what all runs together say
  outcome/                        what compare.gin gave: results.csv, and the chart in the README

Files of COMPARE_DIR:
  comparison.json          the plan, and what became of each run
  runs/NAME-SEED/          MODEL_DIR of a run, as launch.train writes it; NAME-SEED.log: its output
  passages.jsonl           the held-out passages, the same for all models; .made_for.json: for which
  judged/NAME-SEED.json    what was measured of a run
  report.html, *.png, results.csv, results.json

Each run is judged by a process of its own:

    python -m launch.comparison.judge MODEL_DIR --passages=COMPARE_DIR/passages.jsonl \\
      --output=COMPARE_DIR/judged/NAME-SEED.json --passage_count=60 --passage_bytes=240 --seed=0 \\
      [--pairs_file=PATTERN] [--classification=GIN_FILE_OR_BINDING ...] [--classification_steps=150]

It writes, as a whole, the output:

    {"model_dir": "...", "step": 400,
     "measures": {"completion": {"value": 2.1, "reason": "", "method": "A sentence.",
                                 "standard_error": null, "count": 60}, ...},
     "passages": [{"passage": 0, "prompt": "...", "truth": "...", "continuation": "..." or null,
                   "hole": {"before": "...", "truth": "...", "after": "...", "filling": "..."}}]}

The names of the measures are those of t5x_style.comparison.measures; of those that a model does not
have, value is null and reason says why. passages holds the first ten.
"""
