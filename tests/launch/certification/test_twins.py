"""Twin runs: the published model passes, every wrong setting fails, and kept curves stand in."""

import pytest

from launch.certification import curves, texts, torch_twin, twins
from launch.certification.recipe import Context

STEPS = 20


@pytest.fixture
def certify(tmp_path, monkeypatch):
  """Returns a function that runs the first steps of a twin run with more gin bindings."""
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  monkeypatch.setattr(torch_twin, "STEPS", STEPS)
  text = texts.prepare(None, tmp_path / "text")
  recipes = {recipe.name: recipe for recipe in twins.recipes()}

  def run(name, *bindings, folder="certificate"):
    # The warm-up lasts longer than these steps, so the shorter schedule has the same rates.
    given = (f"TRAIN_STEPS = {STEPS}", "EVAL_PERIOD = 1000", "SAVE_PERIOD = 1000", *bindings)
    command = "python -m launch.certify {}"
    context = Context(tmp_path / folder, text, given, command, lambda what: None)
    assert recipes[name].missing(context) == ""
    return recipes[name].run(context)

  return run


ALL = ("twin_bert", "twin_t5", "twin_gpt2", "twin_llama", "twin_bart")


@pytest.mark.parametrize(
  "name", [pytest.param(x, marks=[pytest.mark.slow] if x != "twin_gpt2" else []) for x in ALL]
)
def test_the_published_model_passes(certify, name):
  line = certify(name)
  assert line.verdict == "passed", line.reason
  assert line.difference < twins.EARLY_BOUND and line.ours < line.details["losses_here"][0] - 0.1
  assert "compared with torch" in line.reason


@pytest.mark.slow
def test_a_kept_curve_stands_in_for_pytorch(certify, tmp_path, monkeypatch):
  line = certify("twin_gpt2")
  monkeypatch.setattr(torch_twin, "versions", dict)
  monkeypatch.setattr(curves, "FOLDER", tmp_path)
  (tmp_path / "twin_gpt2.made_up.csv").write_bytes(
    (tmp_path / "certificate/twin_gpt2/curve.csv").read_bytes()
  )
  kept = certify("twin_gpt2")
  assert kept.verdict == "passed" and "kept curve of torch 2" in kept.reason
  assert kept.published == pytest.approx(line.published, abs=1e-6)


WRONG = (
  ("twin_bert", "config.TransformerConfig.norm_epsilon = 1e-5"),
  ("twin_bert", "config.TransformerConfig.norm = 'rms'"),
  ("twin_t5", "config.TransformerConfig.mlp_activations = ('gelu',)"),
  ("twin_t5", "config.TransformerConfig.scale_logits = False"),
  ("twin_gpt2", "PEAK_LEARNING_RATE = 0.00031"),
  ("twin_gpt2", "optimizers.adamw.eps = 1e-6"),
  ("twin_gpt2", "config.TransformerConfig.norm_epsilon = 1e-4"),
  ("twin_llama", "config.TransformerConfig.rotary_base = 10000.0"),
  ("twin_llama", "CLIP_GRADIENT_NORM = None"),
  ("twin_bart", "config.TransformerConfig.mlp_activations = ('relu',)"),
  ("twin_bart", "optimizers.adamw.b2 = 0.999"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "binding"), WRONG)
def test_a_wrong_setting_fails(certify, name, binding):
  line = certify(name, binding)
  assert line.verdict == "failed", line.reason


def test_what_is_needed_without_pytorch(monkeypatch, tmp_path):
  monkeypatch.setattr(torch_twin, "versions", dict)
  text = texts.Text("mine.txt", "no such digest", "", tmp_path, tmp_path)
  context = Context(tmp_path, text, (), "", lambda what: None)
  recipe = next(twins.recipes())
  assert recipe.missing(context) == (
    "needs torch and transformers 5: there is no kept curve for mine.txt"
  )
