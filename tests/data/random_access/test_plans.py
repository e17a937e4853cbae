"""Plans of rows: made once, kept in files, refused to no one."""

import os

import numpy as np
import pytest

from t5x_style.data.pieces import Cutting
from t5x_style.data.random_access import packing_plan, plans
from t5x_style.errors import UserError
from tests import token_caches

WHOLE = Cutting("whole")
LENGTHS = [3, 5, 2, 9, 1, 4, 4, 6, 2, 8]


@pytest.fixture
def split(tmp_path):
  documents = [np.full(n, 7) for n in LENGTHS]
  return token_caches.make(tmp_path / "cache", {"train": documents}).split("train")


def sharing(room=10, **facts):
  return plans.Sharing(lambda tokens, _: tokens[:, None], (room,), facts)


def opened(split, cutting=WHOLE, shared=None, content="1"):
  return plans.open_plan(split._cache.folder, content, split, cutting, shared)


@pytest.mark.parametrize("at_once", [2**20, 3])
def test_rows_hold_each_document_once_and_no_more_than_fits(split, monkeypatch, at_once):
  monkeypatch.setattr(plans, "_AT_ONCE", at_once)
  plan = opened(split, shared=sharing())
  assert sorted(plan.examples.tolist()) == list(range(10))
  rows = np.split(plan.examples, plan.rows[1:-1])
  sizes = [sum(LENGTHS[i] for i in row) for row in rows]
  assert max(sizes) <= 10 and sum(sizes) == sum(LENGTHS)
  assert plan.filled == pytest.approx(sum(LENGTHS) / (10 * len(rows)))
  assert len(rows) == {2**20: 5, 3: 6}[at_once]
  np.testing.assert_array_equal(split.document_at(plan.positions), np.arange(10))


def test_a_plan_is_made_once_for_what_it_depends_on(split, monkeypatch):
  made = []
  real = packing_plan.patterns
  monkeypatch.setattr(packing_plan, "patterns", lambda *x: made.append(1) or real(*x))
  first = opened(split, shared=sharing(objective="a"))
  again = opened(split, shared=sharing(objective="a"))
  assert len(made) == 1
  np.testing.assert_array_equal(first.examples, again.examples)
  for other in (
    {"shared": sharing(objective="b")},
    {"shared": sharing(11, objective="a")},
    {"shared": sharing(objective="a"), "cutting": Cutting("windows", 9)},
    {"shared": sharing(objective="a"), "content": "2"},
  ):
    opened(split, **other)
  assert len(made) == 5


def test_an_interrupted_plan_leaves_nothing(split, monkeypatch):
  def fail(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as context:
    context.setattr(packing_plan, "patterns", fail)
    with pytest.raises(KeyboardInterrupt):
      opened(split, shared=sharing())
  assert [*(split._cache.folder / "plans").iterdir()] == []
  assert opened(split, shared=sharing()).rows is not None


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_cache_that_is_read_only_has_its_plans_elsewhere(split, tmp_path, monkeypatch):
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "own"))
  split._cache.folder.chmod(0o500)
  opened(split, shared=sharing())
  assert (tmp_path / "own" / "plans").is_dir()


def test_a_folder_that_cannot_be_written_is_named(split, tmp_path, monkeypatch):
  (split._cache.folder / "plans").write_text("no folder")
  (tmp_path / "own").mkdir()
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "own"))
  assert opened(split, shared=sharing()).rows is not None  # It is in the user's own folder.
  (tmp_path / "file").write_text("no folder")
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "file"))
  with pytest.raises(UserError, match="cannot be written.*T5X_STYLE_CACHE"):
    opened(split, shared=sharing(12))


def test_no_document(tmp_path):
  split = token_caches.make(tmp_path / "cache", {"train": [np.full(1, 7)]}).split("train")
  plan = opened(split, cutting=Cutting("windows", 8), shared=sharing())
  assert plan.rows.tolist() == [0] and len(plan.examples) == len(plan.positions) == 0
