"""The command: what it writes of a run, twice the same, and whole or not at all."""

import json
import types

import pytest

from launch.comparison import held_out, judge, passages
from launch.process.errors import ConfigurationError
from t5x_style.comparison.measures import MEASURES, Measured
from t5x_style.errors import UserError


@pytest.fixture
def judged(tmp_path):
  """judged(MODEL_DIR, *flags) returns what the command writes."""

  def start(model_dir, *flags, name="judged.json", file="passages.jsonl"):
    output = tmp_path / name
    given = [f"--passages={tmp_path / file}", f"--output={output}", "--passage_count=8", *flags]
    assert judge.main(["judge", str(model_dir), *given]) is None
    return json.loads(output.read_text())

  return start


@pytest.mark.slow
def test_a_causal_lm(finished_run, judged, tmp_path):
  model_dir = finished_run("decoder_only", "causal_lm")
  pairs = tmp_path / "pairs.jsonl"
  pairs.write_text('{"sentence_good": "import os", "sentence_bad": "os import"}\n' * 4)
  found = judged(model_dir, f"--pairs_file={tmp_path}/pairs*.jsonl")
  assert found["model_dir"] == str(model_dir) and found["step"] == 2
  measures = {name: Measured.of_json(value) for name, value in found["measures"].items()}
  assert list(measures) == list(MEASURES)
  has = {name for name, each in measures.items() if each.value is not None}
  assert has >= {"completion", "choice_of_four", "infilling", "pairs", "blimp"}
  for name, each in measures.items():
    assert each.method if name in has else each.reason, name
  assert 1 < measures["completion"].value < 8  # 13 bits a token of 3 bytes at the start
  assert measures["blimp"].value in (0.0, 1.0) and measures["blimp"].count == 4
  cut = passages.read(tmp_path / "passages.jsonl")
  assert len(cut) == 8 == len(found["passages"]) == measures["choice_of_four"].count
  for passage, shown in zip(cut, found["passages"], strict=True):
    assert shown["prompt"] + shown["truth"] == passage.text
    hole = shown["hole"]
    assert hole["before"] + hole["truth"] + hole["after"] == passage.text
    assert isinstance(shown["continuation"], str) and isinstance(hole["filling"], str)

  again = judged(model_dir, f"--pairs_file={pairs}", name="again.json")
  assert again == found
  assert sorted(x.name for x in tmp_path.iterdir()) == [
    *("again.json", "judged.json", "pairs.jsonl", "passages.jsonl")
  ]


@pytest.mark.slow
@pytest.mark.parametrize(
  "architecture, objective, lacking",
  [
    ("encoder_decoder", "span_corruption", {"completion", "masked_accuracy"}),
    ("encoder_decoder", "text_infilling", {"completion", "masked_accuracy"}),
    ("encoder_decoder", "ul2", {"masked_accuracy"}),
    ("encoder_decoder", "prefix_lm", {"masked_accuracy"}),
    ("decoder_only", "prefix_lm", {"masked_accuracy"}),
    ("decoder_only", "fill_in_middle", {"masked_accuracy"}),
    ("decoder_only", "ul2", {"masked_accuracy"}),
    ("encoder_only", "masked_lm", {"completion"}),
    ("encoder_only", "sentence_order", {"completion"}),
    ("encoder_only", "masked_diffusion", {"masked_accuracy"}),
  ],
)
def test_every_objective(finished_run, judged, architecture, objective, lacking):
  found = judged(finished_run(architecture, objective))
  values = {name: each["value"] for name, each in found["measures"].items()}
  none = {name for name, value in values.items() if value is None}
  assert none - {"blimp", "classification", "signal_density", "flops", "memory"} == lacking
  fillings = [shown["hole"]["filling"] for shown in found["passages"]]
  # BART has to write the text around the hole, too, which it cannot after two steps.
  assert all(isinstance(x, str) for x in fillings) or objective == "text_infilling"
  writes = [shown["continuation"] is not None for shown in found["passages"]]
  assert all(writes) if "completion" not in lacking else not any(writes)


@pytest.mark.parametrize(
  "arguments, message",
  [
    ([], "Give one MODEL_DIR"),
    (["a", "b", "--passages=p", "--output=o"], "Give one MODEL_DIR"),
    (["a", "--passages=p"], "Give one MODEL_DIR"),
    (["a", "--passages=p", "--output=o", "--passage_count=0"], "passage_count"),
  ],
)
def test_wrong_flags(arguments, message):
  with pytest.raises(ConfigurationError, match=message):
    judge.main(["judge", *arguments])


def test_runs_without_text_are_refused():
  no_text = types.SimpleNamespace()
  with pytest.raises(UserError, match="is a SeqIO task or random tokens: set CORPUS"):
    held_out.cut([no_text], count=8, passage_bytes=100, seed=0)


@pytest.mark.slow
def test_wrong_files(finished_run, judged, tmp_path):
  model_dir = finished_run("decoder_only", "causal_lm")
  with pytest.raises(ConfigurationError, match="none.jsonl: there is no such file"):
    judged(model_dir, "--pairs_file=none.jsonl")
  (tmp_path / "damaged.jsonl").write_text("{}\n")
  with pytest.raises(ConfigurationError, match="damaged.jsonl:1 is not a passage"):
    judged(model_dir, file="damaged.jsonl")
  (tmp_path / "damaged.jsonl").unlink()
  with pytest.raises(ConfigurationError, match="nowhere"):
    judged(tmp_path / "nowhere")
