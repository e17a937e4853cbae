"""Curves of losses: files that are read back, and the curves that come with the package."""

import math

import pytest

from launch.certification import catalogue, curves, texts, torch_twin, twins

TWINS = [name for name in catalogue.ABOUT if name.startswith("twin_")]


def test_a_curve_is_found_by_the_text_it_is_of(tmp_path, monkeypatch):
  monkeypatch.setattr(curves, "FOLDER", tmp_path)
  for sha256, loss in (("aa", 2.5), ("bb", 3.5)):
    columns = {curves.OWN: [5.0, 4.0], curves.PEER: [5.0, loss]}
    facts = {"command": "python -m launch.certify twin_t5", "torch": "2.13.0"}
    curves.write(tmp_path / f"twin_t5.{sha256}.csv", facts, columns, sha256)
  found = curves.kept("twin_t5", "bb")
  assert found is not None and found.losses == [5.0, 3.5]
  assert found.facts["command"] == "python -m launch.certify twin_t5"
  assert curves.kept("twin_t5", "cc") is None and curves.kept("twin_bert", "aa") is None


def test_the_largest_difference_has_its_step():
  assert curves.largest_difference([3.0, 2.0, 1.0], [3.0, 2.5, 0.9]) == (0.5, 2)
  assert curves.largest_difference([3.0, math.nan], [3.0, 1.0]) == (math.inf, 2)
  assert curves.largest_difference([3.0], [3.0, 1.0])[0] == math.inf


@pytest.mark.parametrize("name", TWINS)
def test_kept_curves_passed_when_they_were_made(name):
  """Each has the losses of both sides on the made-up text; anybody can make that text."""
  made_up = curves.kept(name, texts.digest(texts.made_up_text()))
  assert made_up is not None and len(made_up.losses) == torch_twin.STEPS
  assert made_up.losses[-1] < made_up.losses[0] - 1
  for path in curves.FOLDER.glob(f"{name}.*.csv"):
    rows = [line.split(",") for line in path.read_text().splitlines() if line[0].isdigit()]
    own, peer = ([float(row[column]) for row in rows] for column in (1, 2))
    assert curves.largest_difference(own, peer)[0] <= twins.BOUND
    facts = curves.read(path).facts
    assert name in facts["command"] and {"torch", "transformers", "jax"} <= facts.keys()
