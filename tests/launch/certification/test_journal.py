"""A certificate's folder: what is finished is skipped; other settings or code begin again."""

import json

import pytest

from launch.certification import journal, texts
from launch.certification.certificate import Line, judged
from launch.certification.recipe import Context, Recipe


@pytest.fixture
def context(tmp_path):
  text = texts.Text("a text", "abc", "", tmp_path / "train.txt", tmp_path / "validation.txt")
  return Context(tmp_path, text, (), "python -m launch.certify", lambda what: None)


def counted(ran, name, end=None):
  def run(context):
    ran.append(name)
    if end:
      raise end
    (context.folder / name / "work").write_text("x")
    return judged(name, "loss", 1.0, 1.05, 0.1, details={"n": len(ran)})

  return Recipe(name, lambda context: "", run)


def test_what_is_finished_is_skipped(context):
  ran = []
  first = [counted(ran, "one"), counted(ran, "two", end=KeyboardInterrupt())]
  found = journal.run(first, context)
  line = next(found)
  with pytest.raises(KeyboardInterrupt):
    next(found)
  again = list(journal.run([counted(ran, "one"), counted(ran, "two")], context))
  assert ran == ["one", "two", "two"]
  assert again[0] == line and line.verdict == "passed"


@pytest.mark.parametrize("changed", ["settings", "text", "code"])
def test_a_result_of_another_plan_does_not_count(context, changed, monkeypatch):
  ran, said = [], []
  list(journal.run([counted(ran, "one")], context))
  if changed == "settings":
    context = context._replace(bindings=("PEAK_LEARNING_RATE = 1.0",))
  elif changed == "text":
    context = context._replace(text=context.text._replace(sha256="def"))
  else:
    monkeypatch.setattr(journal, "_digest_of_code", lambda: "of other code")
  list(journal.run([counted(ran, "one")], context._replace(say=said.append)))
  assert ran == ["one", "one"] and said == [f"one: begins again, with other {changed}"]


def test_what_was_finished_before_is_known(context):
  ran = []
  (line,) = journal.run([counted(ran, "one")], context)
  every = [counted(ran, name) for name in ("one", "two")]
  assert journal.finished_before(every, context) == {"one": line}
  other = context._replace(bindings=("PEAK_LEARNING_RATE = 1.0",))
  assert journal.finished_before(every, other) == {}
  assert ran == ["one"]


def test_the_digest_of_the_code_sees_every_file(monkeypatch, tmp_path):
  before = journal._digest_of_code()
  (tmp_path / "new.gin").write_text("A = 1")
  monkeypatch.setattr(journal, "SHIPPED", tmp_path)
  assert journal._digest_of_code() != before


def test_a_recipe_that_cannot_run_says_why_and_writes_nothing(context):
  recipe = Recipe("nanogpt_gpu", lambda context: "needs a GPU", lambda context: None)
  (line,) = journal.run([recipe], context)
  assert line == Line("nanogpt_gpu", line.claim, "not run", reason="needs a GPU")
  assert not (context.folder / "nanogpt_gpu").exists()
  written = json.loads(json.dumps(line.as_json()))
  assert written["verdict"] == "not run" and written["ours"] is None
