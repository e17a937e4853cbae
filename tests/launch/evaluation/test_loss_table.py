"""Tables of losses: kinds of bits per byte that cannot be compared are never in one table."""

from launch.evaluation import loss_table
from launch.evaluation.compressors import Compressed
from t5x_style.likelihoods import Likelihood

SUFFIX = Likelihood(name="exact on the suffix", what="Of suffixes.", comparable=True)
HIDDEN = Likelihood(name="conditional", what="Of what is hidden.", comparable=False)
COMPRESSED = Compressed({"bz2": 2.4, "xz": 2.5}, 1000, 9000, True)


def figures(loss, **more):
  return {"tokens": 10.0, "loss": loss, "perplexity": 7.0, "accuracy": 0.5, **more}


def bits(value, kind):
  return {"bits_per_byte": value, "method": kind.name, "comparable": kind.comparable}


def test_the_best_of_several_steps_and_what_is_damaged():
  records = [
    {"step": 1000, **figures(2.0, **bits(1.5, SUFFIX))},
    {"step": 2000, **figures(1.5, **bits(1.125, SUFFIX))},
    {"step": 3000, "problem": "damaged: it is empty"},
  ]
  shown = loss_table.tables(records, {"": SUFFIX}, COMPRESSED)
  lines = shown.splitlines()
  assert lines[0].split() == ["step", "nats/token", "perplexity", "accuracy", "bits/byte"]
  assert lines[1].split() == ["1,000", "2.0000", "7.00", "50.0%", "1.5000"]
  assert lines[2].split() == ["2,000", "1.5000", "7.00", "50.0%", "1.1250", "best"]
  assert lines[3].split(maxsplit=5) == ["3,000", "-", "-", "-", "-", "damaged: it is empty"]
  text = " ".join(shown.split())
  assert "exact on the suffix: Of suffixes." in text and "bz2 2.4000, xz 2.5000." in text
  assert "given the 9,000 bytes of training text" in text and "has not learnt" in text


def test_each_kind_of_a_mixture_has_a_table_of_its_own():
  parts = {"R": figures(2.0, **bits(9.0, HIDDEN)), "S": figures(2.0, **bits(1.5, SUFFIX))}
  shown = loss_table.tables(
    [{"step": 5, **figures(2.0), "parts": parts}], {"R": HIDDEN, "S": SUFFIX}, COMPRESSED
  )
  whole, suffix, of_suffix, compressors, hidden, of_hidden = shown.split("\n\n")
  assert "all parts" in whole and "bits/byte" not in whole
  assert "exact on the suffix" in suffix and "only with the same" not in suffix
  assert "1.5000" in of_suffix and "9.0000" not in of_suffix
  assert "bz2" in compressors
  assert "conditional" in hidden and "only with the same objective" in " ".join(hidden.split())
  assert "9.0000" in of_hidden and "1.5000" not in of_hidden


def test_without_bits_per_byte_there_is_no_heading_for_them():
  shown = loss_table.tables([{"step": 5, **figures(2.0, pair_accuracy=0.75)}], {"": HIDDEN}, None)
  assert shown.splitlines()[0].split()[-2:] == ["pairs", "right"]
  assert shown.splitlines()[1].split()[-1] == "75.0%" and len(shown.splitlines()) == 2
