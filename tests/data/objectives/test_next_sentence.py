"""NSP: labels are true, half of each; the other document is another one."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from t5x_style.data import loader
from t5x_style.data.objectives.next_sentence import NextSentence
from t5x_style.data.tokenizers import token_text, vocabularies
from t5x_style.errors import UserError


def test_next_sentence_labels(pairs, examples, numbered, ordinary):
  out = examples(NextSentence(), "encoder_only", {"inputs": 43}, docs=numbered)
  place = {int(token): i for i, token in enumerate(ordinary)}
  labels = []
  for first, second, label in pairs(out):
    first, second = ([place[t] for t in part] for part in (first, second))
    assert len(first) >= 2 and len(second) >= 2
    assert all(b - a == 1 for part in (first, second) for a, b in itertools.pairwise(part))
    follows = second[0] == first[-1] + 1
    assert label == int(not follows)
    if label:
      assert second[0] // 100 != first[0] // 100
    labels.append(label)
  n = len(labels)
  assert n == 60 * 3 and abs(sum(labels) - n / 2) < 3.5 * np.sqrt(n / 4)


def test_parts_of_one_document_are_not_another():
  """The parts of a long file have the same number and count as one document."""
  numbers, ids = [7, 7, 7, 4, 4, 7], [11, 12, 13, 14, 15, 16]
  dataset = tf.data.Dataset.from_tensor_slices((numbers, ids)).map(
    lambda number, token: {
      "document": number,
      "targets": tf.fill([5 + number % 2], token),
      "noise_seed": tf.zeros([2], tf.int64),
    }
  )
  found = NextSentence().arranged(dataset).as_numpy_iterator()
  other = [one["other_targets"][:1].tolist() for one in found]
  assert other == [[], [], [14], [13], [13], [15]]
  with pytest.raises(UserError, match="the file has one document"):
    NextSentence().check_documents(lambda: dataset.take(3), "the file")


@pytest.mark.parametrize("order", ["A", "AAA", "AB", "ABBA", "AABBAB", "AAAB", "ABCCCBA"])
def test_another_document_is_another(order):
  """Copies count as the same document; the next one is taken if there is no other before."""
  documents = [[ord(kind)] * (5 + ord(kind) % 2) for kind in order]
  dataset = tf.data.Dataset.from_generator(
    lambda: ({"targets": tokens} for tokens in documents),
    output_signature={"targets": tf.TensorSpec([None], tf.int32)},
  )
  found = list(NextSentence().arranged(dataset).as_numpy_iterator())
  assert [one["targets"].tolist() for one in found] == documents
  for i, one in enumerate(found):
    before = [kind for kind in order[:i] if kind != order[i]]
    after = [kind for kind in order[i + 1 : i + 2] if kind != order[i]]
    expected = "".join([*before[-1:], *after][:1])
    assert "".join(map(chr, one["other_targets"][:1])) == expected


def test_pairs_of_two_documents_over_many_epochs(pairs, examples, ordinary):
  place = {int(token): i for i, token in enumerate(ordinary)}
  kinds = {kind: ordinary[i * 1000 : (i + 1) * 1000] for i, kind in enumerate("AB")}
  docs = [kinds[kind] for kind in "BAABABBA"]
  out = examples(NextSentence(), "encoder_only", {"inputs": 43}, docs=docs)
  labels = []
  for first, second, label in pairs(out):
    one, other = ({place[t] // 1000 for t in part} for part in (first, second))
    assert len(one) == len(other) == 1
    assert label == int(one != other)
    labels.append(label)
  n = len(labels)
  assert n == 25 * len(docs) and abs(sum(labels) - n / 2) < 4 * 3.5 * np.sqrt(
    n / 4 / 4
  )  # four copies are alike
  single = examples(NextSentence(), "encoder_only", {"inputs": 43}, docs=docs[:1])
  assert not single["pair_label"].any()


@pytest.mark.slow
def test_a_stream_of_one_document_is_refused_and_of_two_holds_true_pairs(new_corpus, tmp_path):
  texts = [" ".join(f"{word}{i}." for i in range(200)).encode() for word in ("alpha", "GAMMA")]
  corpus = new_corpus(tmp_path, texts, texts[:1], shards=1)
  vocabulary = vocabularies.byte_vocabulary(128, ("[CLS]", "[SEP]", "[MASK]"))

  def load(**changes):
    return loader.load(
      *("encoder_only", 8, 0),
      corpus=corpus,
      vocabulary=vocabulary,
      objective=NextSentence(),
      feature_lengths={"inputs": 64},
      shuffle_buffer_size=200,
      **changes,
    )

  batches = load().train()
  labels = []
  for batch in itertools.islice(batches, 40):
    sides = (batch["encoder_target_tokens"], batch["encoder_token_types"], batch["pair_labels"])
    for row, types, label in zip(*sides, strict=True):
      texts_of = [vocabulary.decode(row[types == side].tolist()) for side in (0, 1)]
      upper = [{c.isupper() for c in text if c.isalpha()} for text in texts_of]
      assert not all(upper) or label == int(upper[0] != upper[1]), texts_of
      labels.append(label)
  assert abs(sum(labels) - 160) < 3.5 * np.sqrt(80)
  with pytest.raises(UserError, match=r"'train' split in data stream 0 of 2 has one document"):
    load(streams=2)


def test_the_beginning_of_the_second_segment_does_not_show_the_label(pairs, examples, vocabulary):
  """Segments of both kinds begin at the start of a sentence."""
  docs = [
    np.array(vocabulary.encode("".join(f" {word} is number {i}." for i in range(300))))
    for word in ("This", "That", "What")
  ]
  out = examples(NextSentence(), "encoder_only", {"inputs": 64}, docs=docs)
  found = pairs(out)
  seen = {token_text.decode_visible(vocabulary, second).split()[0] for _, second, _ in found}
  assert sum(label for *_, label in found) > 50
  assert seen == {"This", "That", "What"}


def test_short_documents_are_left_out(examples):
  docs = [[10], [10, 11, 12], [], list(range(20, 30))]
  out = examples(NextSentence(), "encoder_only", {"inputs": 20}, docs=docs)
  assert len(out["targets"]) == 1
