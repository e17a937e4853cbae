"""Text to text: inputs and targets are those of the corpus; only targets carry loss."""

import json

import numpy as np
import pytest

from t5x_style.data import corpora, loader
from t5x_style.data.objectives.text_to_text import TextToText

PAIRS = [("two plus two", "four"), ("the opposite of black", "white"), ("one plus one", "two")]


@pytest.fixture
def open_data(tmp_path, vocabulary, monkeypatch):
  monkeypatch.setenv("T5X_STYLE_CACHE", str(tmp_path / "cache"))
  lines = [json.dumps({"inputs": x, "targets": y}) for x, y in PAIRS]
  (tmp_path / "pairs.jsonl").write_text("\n".join(lines))

  def run(architecture, lengths, objective=None, pack=True):
    return loader.load(
      architecture,
      1,
      0,
      corpus=corpora.Jsonl(
        f"{tmp_path}/*.jsonl", "inputs", target_field="targets", validation_fraction=0
      ),
      vocabulary=vocabulary,
      objective=objective or TextToText(),
      feature_lengths=lengths,
      pack=pack,
      shuffle_buffer_size=1,
    )

  return run


def cut_at_ends(row, eos):
  ends = [i + 1 for i, token in enumerate(row) if token == eos]
  return [row[i:j] for i, j in zip([0, *ends], ends, strict=False)]


def test_an_encoder_reads_the_inputs_and_a_decoder_writes_the_targets(open_data, vocabulary):
  data = open_data("encoder_decoder", {"inputs": 64, "targets": 32})
  assert data.exact_match
  batch = {name: value[0].tolist() for name, value in next(data.train()).items()}
  inputs = cut_at_ends(batch["encoder_input_tokens"], vocabulary.eos_id)
  targets = cut_at_ends(batch["decoder_target_tokens"], vocabulary.eos_id)
  texts = [
    tuple(vocabulary.decode(x[:-1]) for x in both) for both in zip(inputs, targets, strict=True)
  ]
  assert len(texts) > 5 and set(texts) <= set(PAIRS)
  carries = [weight > 0 for weight in batch["decoder_loss_weights"]]
  assert carries == [token > 0 for token in batch["decoder_target_tokens"]]
  # Examples of a row do not see each other.
  assert batch["decoder_segment_ids"][: len(targets[0])] == [1] * len(targets[0])
  assert max(batch["encoder_segment_ids"]) == len(texts)


@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("pack", [True, False])
def test_a_decoder_reads_inputs_without_loss(both_ways, pack, open_data, vocabulary):
  objective = TextToText(bidirectional_inputs=both_ways)
  data = open_data("decoder_only", {"inputs": 20, "targets": 12}, objective, pack)
  batch = {name: value[0] for name, value in next(data.train()).items()}
  parts = cut_at_ends(batch["decoder_target_tokens"].tolist(), vocabulary.eos_id)
  assert tuple(vocabulary.decode(x[:-1]) for x in parts[:2]) in PAIRS
  read, written = len(parts[0]), len(parts[1])
  weights = batch["decoder_loss_weights"][: read + written]
  assert weights.tolist() == [0] * read + [1] * written
  assert batch["decoder_input_tokens"][0] == 0
  if both_ways:  # The start token and all of the inputs.
    attention = batch["decoder_causal_attention"][: read + written]
    assert attention.tolist() == [1] * (read + 1) + [0] * (written - 1)
  else:
    assert "decoder_causal_attention" not in batch


def test_long_texts_lose_their_end_and_keep_eos(open_data, vocabulary):
  with pytest.warns(UserWarning, match=r"100% of the first 3 texts .* TASK_FEATURE_LENGTHS\['inp"):
    data = open_data("encoder_decoder", {"inputs": 3, "targets": 2}, pack=False)
  tokens = np.asarray(next(data.train())["encoder_input_tokens"][0]).tolist()
  assert tokens in [[*vocabulary.encode(x)[:2], vocabulary.eos_id] for x, _ in PAIRS]
