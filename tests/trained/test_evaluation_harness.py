"""Models in lm-evaluation-harness, against its own models and our scores; without a network."""

import json
import math
import sys

import pytest

import t5x_style
from t5x_style.errors import UserError
from t5x_style.trained import evaluation_harness
from t5x_style.trained.evaluation_harness import harness_model
from tests.trained import random_models

PAIRS = [
  ("The quick brown", " fox jumps"),
  ("The quick ", "brown fox!"),
  ("", "over the lazy dog"),
  ("a", "!"),
  ("word " * 30, "and the lazy dog"),  # longer than GPT-2's positions
]


@pytest.fixture(scope="module", params=["gpt2", "t5"])
def models(request, tmp_path_factory):
  """(the harness's own model, this package's, as loaded) of one folder."""
  for package in ("torch", "lm_eval", "accelerate"):
    pytest.importorskip(package, reason=f"{package} is missing: pip install 'lm-eval[hf]' torch")
  from lm_eval.models.huggingface import HFLM

  from tests import huggingface_folders

  folder = tmp_path_factory.mktemp(request.param)
  huggingface_folders.save(request.param, folder)
  backend = "causal" if request.param == "gpt2" else "seq2seq"
  theirs = HFLM(str(folder), backend=backend, device="cpu", batch_size=2, max_length=40)
  loaded = t5x_style.load(f"hf:{folder}")
  return theirs, harness_model(loaded, max_length=40), loaded


def instances(kind, arguments):
  from lm_eval.api.instance import Instance

  return [Instance(kind, {}, x, i) for i, x in enumerate(arguments)]


def test_log_likelihoods(models):
  theirs, ours, loaded = models
  wanted, found = (x.loglikelihood(instances("loglikelihood", PAIRS)) for x in (theirs, ours))
  for (total, greedy), (expected, expected_greedy) in zip(found, wanted, strict=True):
    assert total == pytest.approx(expected, abs=1e-3)
    assert greedy == expected_greedy
  (score,) = loaded.score(*PAIRS[0])
  assert found[0][0] == pytest.approx(score.total, abs=1e-4)


def test_one_next_token_is_the_greedy_one(models):
  _, ours, loaded = models
  context = ours.tok_encode("The quick brown")
  requests = [(None, context, [i]) for i in range(loaded.config.vocab_size)]
  totals, greedy = zip(*ours._loglikelihood_tokens(requests), strict=True)
  assert [i for i, x in enumerate(greedy) if x] == [max(range(len(totals)), key=totals.__getitem__)]
  assert sum(map(math.exp, totals)) == pytest.approx(1.0, abs=1e-4)


def test_rolling_log_likelihoods(models):
  """The second text needs three windows of 40 tokens."""
  theirs, ours, loaded = models
  texts = [("The quick brown fox!",), ("the lazy dog jumps over " * 5,)]
  wanted, found = (
    x.loglikelihood_rolling(instances("loglikelihood_rolling", texts)) for x in (theirs, ours)
  )
  if ours.backend == "causal":
    assert found == pytest.approx(wanted, abs=1e-3)
    (score,) = loaded.score(*texts[0])
    assert found[0] == pytest.approx(score.total, abs=1e-4)
  else:  # The harness also scores the EOS that T5's tokenizer puts after a text.
    assert all(0 > x > y for x, y in zip(found, wanted, strict=True))


def test_continuations(models):
  theirs, ours, _ = models
  settings = {"until": ["\n", "q"], "max_gen_toks": 8}
  contexts = [(context, dict(settings)) for context, _ in PAIRS[:2]]
  found = ours.generate_until(instances("generate_until", contexts))
  if ours.backend == "causal":
    assert found == theirs.generate_until(instances("generate_until", contexts))
    assert any(found)
    return
  # The harness lets an encoder-decoder write as many tokens more as the encoder reads.
  for (context, _), text in zip(contexts, found, strict=True):
    inputs = theirs.tokenizer(context, return_tensors="pt")
    ids = theirs.model.generate(**inputs, max_new_tokens=8, do_sample=False)[0]
    written = theirs.tokenizer.decode(ids, skip_special_tokens=True)
    assert text == written.partition("\n")[0].partition("q")[0]


@pytest.mark.slow
def test_a_task_of_a_local_file(models, tmp_path):
  """The same accuracies and perplexities, through lm_eval.simple_evaluate."""
  import lm_eval
  from lm_eval.tasks import TaskManager

  lines = [
    {"text": "The quick brown", "choices": [" fox", " dog jumps", "!"], "label": 0},
    {"text": "def f", "choices": ["(x)", " return"], "label": 0},
    {"text": "over the", "choices": [" 12345", " lazy dog"], "label": 1},
  ]
  (tmp_path / "data.json").write_text("\n".join(map(json.dumps, lines)))
  (tmp_path / "task.yaml").write_text(f"""
task: local_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path}/data.json}}}}
test_split: test
output_type: multiple_choice
doc_to_text: text
doc_to_choice: choices
doc_to_target: label
target_delimiter: ""
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
""")
  theirs, ours, _ = models
  manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
  found = [
    lm_eval.simple_evaluate(
      model=x, tasks=["local_choices"], task_manager=manager, bootstrap_iters=0
    )
    for x in (theirs, ours)
  ]
  wanted, result = (x["results"]["local_choices"] for x in found)
  for name in ("acc,none", "acc_norm,none"):
    assert result[name] == wanted[name]
  samples = [x["samples"]["local_choices"] for x in found]
  for theirs_of_one, ours_of_one in zip(*samples, strict=True):
    for (a, _), (b, _) in zip(
      theirs_of_one["filtered_resps"], ours_of_one["filtered_resps"], strict=True
    ):
      assert math.isclose(float(a), float(b), abs_tol=1e-3)


def test_encoders_are_refused():
  with pytest.raises(UserError, match="is an encoder.*launch.eval pairs"):
    harness_model(random_models.trained("encoder_only", "masked_lm"))


def test_without_the_package(monkeypatch):
  monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
  evaluation_harness._harness_class.cache_clear()
  with pytest.raises(UserError, match=r"not installed .*pip install 't5x_style\[lm_eval\]'"):
    harness_model(random_models.trained("decoder_only", "causal_lm"))
  evaluation_harness._harness_class.cache_clear()


def test_settings_of_tasks():
  read, Choice = evaluation_harness._length_and_choice, evaluation_harness.Choice
  assert read({}) == (256, Choice())
  assert read({"max_gen_toks": 8, "do_sample": False, "temperature": 0.7}) == (8, Choice())
  assert read({"do_sample": True, "top_k": 5})[1] == Choice(temperature=1.0, top_k=5)
  assert read({"num_beams": 4})[1] == Choice(beams=4)
  assert evaluation_harness._cut("one two three", ["three", "two"]) == "one "
  assert evaluation_harness._cut("one two", "") == "one two"
