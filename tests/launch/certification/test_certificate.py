"""The lines of a certificate: verdicts, the table, and JSON that is read back."""

import json
import math

from launch.certification.certificate import Line, judged, line_of_json, table


def test_a_difference_in_either_direction_fails_beyond_the_bound():
  verdict = lambda ours: judged("x", "loss", 1.88, ours, 0.02).verdict
  assert [verdict(ours) for ours in (1.861, 1.899)] == ["passed", "passed"]
  assert [verdict(ours) for ours in (1.859, 1.901, math.nan)] == ["failed"] * 3


def test_the_table_has_every_figure_and_reason():
  lines = [
    judged("nanogpt", "held-out loss", 1.88, 1.8856, 0.02, reason="of the README"),
    Line("twin", "curves", "failed", 3.1861, 3.1862, 2e-5, 1e-3),
    Line("far", "on C4", "not run", 1.942, reason="needs C4"),
  ]
  shown = table(lines).splitlines()
  assert shown[0].split() == ["recipe", "published", "ours", "difference", "bound", "verdict"]
  rows = {row.split()[0]: row.split()[1:] for row in shown[1:]}
  assert rows["nanogpt"] == ["1.8800", "1.8856", "0.0056", "0.0200", "passed"]
  assert rows["twin"] == ["3.1861", "3.1862", "2.0e-05", "0.0010", "failed"]
  assert rows["far"] == ["1.9420", "-", "-", "-", "not", "run"]
  assert {"    of the README", "    needs C4", "    on C4"} <= set(shown)


def test_a_line_is_read_back_from_json():
  line = judged("x", "loss", 1.0, 1.5, 0.1, details={"seeds": [1.0, 2.0]})
  assert line_of_json(json.loads(json.dumps(line.as_json()))) == line
