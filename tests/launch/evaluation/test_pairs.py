"""launch.eval pairs on models of every architecture, against scores of transformers."""

import json

import pytest

from launch.process.errors import ConfigurationError

PAIRS = [
  ("The fox jumps over the dog!", "The fox jump over the dog!", "agreement"),
  ("The dog", "dog The", "order"),
  ("a!", "!a", "order"),
  ("return 12345", "return 54321", "numbers"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """saved(family) returns (folder, model of transformers, its tokenizer)."""
  pytest.importorskip("torch")
  pytest.importorskip("transformers")
  from tests import huggingface_folders

  def make(family):
    folder = tmp_path_factory.mktemp(family)
    return folder, *huggingface_folders.save(family, folder)

  return make


@pytest.fixture
def pairs_file(tmp_path):
  file = tmp_path / "pairs.jsonl"
  lines = [
    {"sentence_good": good, "sentence_bad": bad, "UID": uid, "field": "syntax"}
    for good, bad, uid in PAIRS
  ]
  file.write_text("".join(json.dumps(x) + "\n" for x in lines))
  return file


def test_a_causal_model(saved, pairs_file, run):
  import torch

  folder, model, tokenizer = saved("gpt2")

  def log_likelihood(text):
    ids = [tokenizer.bos_token_id, *tokenizer(text).input_ids]
    with torch.no_grad():
      table = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(table[i, token]) for i, token in enumerate(ids[1:]))

  wanted = [log_likelihood(good) > log_likelihood(bad) for good, bad, _ in PAIRS]
  code, found = run("pairs", f"hf:{folder}", pairs_file, "--json")
  assert code == 0
  assert (found["pairs"], found["correct"], found["ties"]) == (4, sum(wanted), 0)
  assert found["groups"]["UID"]["order"]["correct"] == sum(wanted[1:3])
  assert found["groups"]["field"]["syntax"]["accuracy"] == found["accuracy"] == sum(wanted) / 4
  shares = [wanted[0], sum(wanted[1:3]) / 2, wanted[3]]
  assert found["mean_of_uids"] == pytest.approx(sum(shares) / 3)
  assert found["method"] == "causal" and found["left_out"] == []
  code, shown = run("pairs", f"hf:{folder}", pairs_file)
  assert code == 0 and "all pairs" in shown and "UID order" in shown
  assert f"Mean over the UIDs: {100 * sum(shares) / 3:.2f} %" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
  ("family", "method"), [("bert", "pseudo_log_likelihood_in_words"), ("t5", "enc_dec_prefix")]
)
def test_other_architectures(saved, pairs_file, run, family, method):
  folder, *_ = saved(family)
  for arguments in ([], [f"--method={method}"]):
    code, found = run("pairs", f"hf:{folder}", pairs_file, "--json", *arguments)
    assert code == 0 and found["pairs"] == 4
  assert found["method"] == method


def test_lines_that_cannot_be_scored(saved, pairs_file, run, capsys):
  folder, *_ = saved("gpt2")
  with pairs_file.open("a") as file:
    file.write("{broken\n")
    file.write(json.dumps({"sentence_good": "long " * 40, "sentence_bad": ""}) + "\n")
    file.write(json.dumps({"sentence_good": "fine", "sentence_bad": ""}) + "\n")
  code, found = run("pairs", f"hf:{folder}", pairs_file, "--json")
  assert code == 65 and found["pairs"] == 4
  reasons = {x["place"]: x["reason"] for x in found["left_out"]}
  assert list(reasons) == [f"{pairs_file}:{n}" for n in (5, 6, 7)]
  assert "sentence_good needs a row of" in reasons[f"{pairs_file}:6"]
  assert "sentence_bad = '' has no token" in reasons[f"{pairs_file}:7"]


def test_mistakes(saved, pairs_file, run, tmp_path):
  folder, *_ = saved("gpt2")
  empty = tmp_path / "empty.jsonl"
  empty.write_text("{}\n")
  for arguments, message in (
    ([folder, empty], "holds no pair"),
    ([f"hf:{folder}"], r"pairs takes MODEL FILE\.\.\.; 1 were given"),
    ([f"hf:{folder}", pairs_file, "--method=pll"], "method='pll' is unknown"),
    ([f"hf:{folder}", pairs_file, "--step=1,2"], "one --step"),
    ([f"hf:{folder}", pairs_file, "--all_steps"], "pairs takes no --all_steps"),
    ([folder, pairs_file], "is a Hugging Face folder; write 'hf:"),
  ):
    with pytest.raises(ConfigurationError, match=message):
      run("pairs", *arguments)
