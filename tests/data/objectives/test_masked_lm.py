"""Masked LM: exact counts, 80/10/10, special tokens untouched, labels that restore the text."""

import numpy as np
import pytest

from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.tokenizers import special_tokens, token_ids, vocabularies
from t5x_style.data.tokenizers.words_and_sentences import WordsAndSentences


def rows(out):
  chosen = out["loss_weights"] > 0
  return out["inputs"], out["targets"], chosen


def test_frame_and_labels(examples, cut, vocabulary):
  out = examples(MaskedLM(), "encoder_only", {"inputs": 128})
  inputs, targets, chosen = rows(out)
  cls, sep = (special_tokens.special_id(vocabulary, p) for p in ("[CLS]", "[SEP]"))
  for row, window in zip(targets, cut(126), strict=False):
    assert row[row > 0].tolist() == [cls, *window, sep]
  # Labels put in place of the chosen tokens give the window back.
  assert (np.where(chosen, targets, inputs) == targets).all()


def test_exact_count_of_maskable_tokens(examples, vocabulary):
  objective = MaskedLM()
  _, targets, chosen = rows(examples(objective, "encoder_only", {"inputs": 512}))
  special = [special_tokens.special_id(vocabulary, p) for p in ("[CLS]", "[SEP]", "[MASK]")]
  untouchable = np.isin(targets, [0, vocabulary.eos_id, *special])
  assert not (chosen & untouchable).any()
  maskable = (~untouchable).sum(axis=1)
  assert chosen.sum(axis=1).tolist() == [max(1, round(0.15 * m)) for m in maskable]
  assert chosen.sum(axis=1).max() <= objective.max_targets({"inputs": 512}, "encoder_only") == 76
  assert chosen[:-1].mean() == pytest.approx(0.15, abs=0.003)


def test_eighty_ten_ten(examples, vocabulary, ordinary):
  parts = [
    rows(examples(MaskedLM(), "encoder_only", {"inputs": 512}, epoch=epoch)) for epoch in range(4)
  ]
  inputs, targets, chosen = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
  n = chosen.sum()
  masked = (inputs == special_tokens.special_id(vocabulary, "[MASK]")) & chosen
  kept = (inputs == targets) & chosen
  changed = chosen & ~masked & ~kept
  assert n > 50_000
  for share, p in ((masked, 0.8), (kept, 0.1 + 0.1 / len(ordinary)), (changed, 0.1)):
    assert abs(share.sum() - n * p) < 3.5 * np.sqrt(n * p * (1 - p))
  assert np.isin(inputs[changed], ordinary).all()
  assert ((inputs == targets) | chosen).all()


def test_every_position_is_chosen_equally_often(examples, documents):
  chosen = [
    examples(MaskedLM(), "encoder_only", {"inputs": 34}, epoch=epoch)["loss_weights"][:-1, 1:-1]
    for epoch in range(3)
  ]
  chosen = np.concatenate(chosen)
  share, n = chosen.mean(axis=0), len(chosen)
  assert abs(share - chosen.mean()).max() < 4.5 * np.sqrt(0.15 * 0.85 / n)


def test_whole_words_are_chosen_together(vocabulary, examples):
  text = "internationalisation of misunderstandings, counterrevolutionaries unbelievably; " * 40
  tokens = vocabulary.encode(text)
  out = examples(
    MaskedLM(whole_word=True), "encoder_only", {"inputs": 130}, docs=[np.array(tokens)]
  )
  spelling = WordsAndSentences(token_ids.of(vocabulary))
  partial = whole = 0
  for targets, chosen in zip(out["targets"][:-1], out["loss_weights"][:-1] > 0, strict=True):
    ids = spelling.word_ids(targets[None])[0]
    words = [chosen[ids == i] for i in np.unique(ids[chosen])]
    cut = sum(not word.all() for word in words)
    assert cut <= 1
    partial += cut
    whole += sum(word.all() and len(word) > 1 for word in words)
  assert whole > partial


def test_documents_become_segments(examples, vocabulary):
  docs = [np.arange(100, 110), np.arange(200, 230)]
  out = examples(MaskedLM(cross_documents=False), "encoder_only", {"inputs": 48}, docs=docs)
  ids = out["inputs_segment_ids"][0]
  # [CLS], ten tokens and EOS; thirty tokens, EOS and [SEP]; padding.
  assert ids.tolist() == [1] * 12 + [2] * 32 + [0] * 4
  assert "inputs_segment_ids" not in examples(MaskedLM(), "encoder_only", {"inputs": 48}, docs=docs)


def test_a_window_of_only_special_tokens_is_left_out(examples, vocabulary):
  mask = special_tokens.special_id(vocabulary, "[MASK]")
  assert examples(MaskedLM(), "encoder_only", {"inputs": 16}, docs=[[mask] * 13]) == {}


def test_errors(vocabulary):
  lengths = {"inputs": 64, "targets": 64}
  with pytest.raises(ValueError, match="mask_rate = 0 is outside"):
    MaskedLM(mask_rate=0).check(token_ids.of(vocabulary), lengths, "encoder_only")
  with pytest.raises(ValueError, match="not shares of one whole"):
    wrong = MaskedLM(mask_share=0.9, random_share=0.2)
    wrong.check(token_ids.of(vocabulary), lengths, "encoder_only")
  with pytest.raises(ValueError, match=r"\[CLS\]"):
    MaskedLM().check(token_ids.of(vocabularies.byte_vocabulary()), lengths, "encoder_only")
  with pytest.raises(ValueError, match="include gin_configs/objectives/"):
    MaskedLM().check(token_ids.of(vocabulary), lengths, "decoder_only")
