"""What launch.compare does: plans, starts the runs one by one, has them judged, writes the report.

Files of COMPARE_DIR:
  comparison.json          the plan, and what became of each run
  runs/NAME-SEED/          MODEL_DIR of a run, as launch.train writes it; NAME-SEED.log: its output
  passages.jsonl           the held-out passages, the same for all models
  judged/NAME-SEED.json    what was measured of a run
  report.html, *.png, results.csv, results.json

Each run is judged by a process of its own:

    python -m launch.comparison.judge MODEL_DIR --passages=COMPARE_DIR/passages.jsonl \\
      --output=COMPARE_DIR/judged/NAME-SEED.json --passage_count=60 --passage_bytes=240 --seed=0 \\
      [--pairs_file=PATTERN] [--classification=GIN_FILE_OR_BINDING ...] [--classification_steps=60]

It cuts the passages out of the held-out text of the run if their file does not exist, and writes,
as a whole, the output:

    {"model_dir": "...", "step": 400,
     "measures": {"completion": {"value": 2.1, "reason": "", "method": "A sentence.",
                                 "standard_error": null, "count": 60}, ...},
     "passages": [{"passage": 0, "prompt": "...", "truth": "...", "continuation": "..." or null,
                   "hole": {"before": "...", "truth": "...", "after": "...", "filling": "..."}}]}

The names of the measures are those of t5x_style.comparison.measures; of those that a model does not
have, value is null and reason says why. passages holds the first ten.
"""
