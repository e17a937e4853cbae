"""What is hidden in rows of each objective, on rows written by hand."""

import numpy as np

from t5x_style.inference import held_out_gaps
from t5x_style.inference.held_out_gaps import excerpt, gap, mask

PAD, EOS, START = SPECIAL_IDS = (0, 1, 0)
MASK, PRE, MID, SUF, SENTINELS = 2, 3, 4, 5, range(95, 85, -1)
NAMES = {0: "", EOS: "</s>", MASK: "[MASK]", PRE: "[PRE]", MID: "[MID]", SUF: "[SUF]"}
NAMES |= {token: f"<extra_id_{k}>" for k, token in enumerate(SENTINELS)}


def to_text(ids):
  """Letters from "a" = 6 on."""
  return "".join(NAMES.get(i) or chr(ord("a") + i - 6) for i in map(int, ids) if i)


def ids(text):
  """Reads "ab0c." as [6, 7, sentinel 0, 8, EOS]; other marks are those of the table."""
  marks = {".": EOS, "_": PAD, "?": MASK, "<": PRE, "^": MID, ">": SUF}
  return np.array(
    [
      SENTINELS[int(c)] if c.isdigit() else marks[c] if c in marks else ord(c) - ord("a") + 6
      for c in text
    ],
    np.int32,
  )


def decoder_row(targets, **more):
  targets = ids(targets)
  read = np.concatenate([[START], targets[:-1]]).astype(np.int32)
  return {
    "decoder_input_tokens": np.where(targets > 0, read, 0),
    "decoder_target_tokens": targets,
    "decoder_loss_weights": (targets > 0).astype(np.float32),
    **more,
  }


def test_the_middle_hole_after_the_truth_about_those_before():
  row = decoder_row("0bc1f2gh.__", encoder_input_tokens=ids("a0de1fg2z.___"))
  found = gap(row, to_text, SPECIAL_IDS)
  assert found.before == "a[...]de" and found.after == "fg[...]z</s>"
  assert found.prompt.tolist() == [START, *ids("0bc1")]
  assert found.truth.tolist() == ids("f").tolist()
  assert found.closing == SENTINELS[2]
  assert found.inputs.tolist() == ids("a0de1fg2z.").tolist()
  last = gap(decoder_row("0bc.", encoder_input_tokens=ids("a0d._")), to_text, SPECIAL_IDS)
  assert (last.truth.tolist(), last.closing) == (ids("bc").tolist(), EOS)


def test_other_targets_of_an_encoder_are_written_from_the_start():
  row = decoder_row("def.", encoder_input_tokens=ids("abc."))
  found = gap(row, to_text, SPECIAL_IDS)
  assert found.prompt.tolist() == [START] and found.closing is None
  assert (found.before, to_text(found.truth)) == ("abc</s>", "def</s>")


def test_the_second_half_of_a_text():
  found = gap(decoder_row("abcdef__"), to_text, SPECIAL_IDS)
  assert (found.before, found.prompt.tolist()) == ("abc", [START, *ids("abc")])
  assert to_text(found.truth) == "def" and not found.reads_both_ways


def test_the_longest_of_the_texts_that_share_a_row():
  segments = np.array([1, 1, 1, 2, 2, 2, 2, 0])
  row = decoder_row("ab.cdef_", decoder_segment_ids=segments)
  row["decoder_input_tokens"][3] = START
  found = gap(row, to_text, SPECIAL_IDS)
  assert (found.before, to_text(found.truth)) == ("cd", "ef")
  assert found.prompt.tolist() == [START, *ids("cd")]
  both = {
    "encoder_input_tokens": ids("xy.zz._"),
    "encoder_segment_ids": np.array([1, 1, 1, 2, 2, 2, 0]),
  }
  assert to_text(gap(row | both, to_text, SPECIAL_IDS).inputs) == "zz</s>"


def test_what_follows_a_prefix():
  row = decoder_row("abcdef._", decoder_causal_attention=np.array([1, 1, 1, 0, 0, 0, 0, 0]))
  row["decoder_loss_weights"][:2] = 0
  found = gap(row, to_text, SPECIAL_IDS)
  assert found.reads_both_ways and found.before == "ab"
  assert found.prompt.tolist() == [START, *ids("ab")]  # exactly what was read both ways
  assert to_text(found.truth) == "cdef</s>"


def test_the_middle_between_a_prefix_and_a_suffix():
  found = gap(decoder_row("<ab>ef^cd."), to_text, SPECIAL_IDS)
  assert (found.before, found.after) == ("ab", "ef")
  assert found.prompt.tolist() == [START, *ids("<ab>ef^")]
  assert to_text(found.truth) == "cd</s>"
  # In the other order the prefix is written, too, and where it ends is not told.
  assert gap(decoder_row("<>ef^abcd."), to_text, SPECIAL_IDS) is None


def test_rows_without_text():
  assert gap(decoder_row("____"), to_text, SPECIAL_IDS) is None
  assert gap(decoder_row("0.", encoder_input_tokens=ids("ab0.")), to_text, SPECIAL_IDS) is None
  empty = {"encoder_input_tokens": ids("__"), "encoder_target_tokens": ids("__")}
  assert mask(empty | {"encoder_loss_weights": np.zeros(2)}, to_text, PAD) is None


def test_ids_of_another_numbering():
  """RoBERTa's padding is 1 and its start 2; segments mark the padding."""
  row = {
    "decoder_input_tokens": np.array([2, 5, 6, 7, 1]),
    "decoder_target_tokens": np.array([5, 6, 7, 0, 1]),
    "decoder_segment_ids": np.array([1, 1, 1, 1, 0]),
    "decoder_loss_weights": np.array([1.0, 1, 1, 1, 0]),
  }
  found = gap(row, lambda x: " ".join(map(str, x)), (1, 0, 2))
  assert found.prompt.tolist() == [2, 5, 6] and found.truth.tolist() == [7, 0]


def test_the_middle_mask():
  row = {
    "encoder_input_tokens": ids("a?c?ez?h.__"),  # f was replaced by z
    "encoder_target_tokens": ids("abcdefgh.__"),
    "encoder_loss_weights": np.array([0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0], np.float32),
  }
  found = mask(row, to_text, PAD)
  assert (found.before, found.position, found.after) == ("a[MASK]c", 3, "ez[MASK]h</s>")
  assert found.truth == ids("d")[0]
  assert found.hidden_share == 4 / 9
  row["encoder_segment_ids"] = np.array([1, 1, 1, 2, 2, 2, 2, 2, 2, 0, 0])
  assert mask(row, to_text, PAD).before == ""


def test_rows_of_a_batch():
  batch = {"x": np.arange(6).reshape(3, 2), "y": np.arange(3)}
  found = list(held_out_gaps.rows(batch))
  assert [row["x"].tolist() for row in found] == [[0, 1], [2, 3], [4, 5]]
  assert [int(row["y"]) for row in found] == [0, 1, 2]


def test_an_excerpt_is_a_few_whole_lines():
  assert excerpt("one\ntwo\nthree\nfo", "[?]", "r\nfive\nsix") == "two\nthree\nfo[?]r\nfive"
  assert excerpt("cut off\nwhole\nha", "[?]", "lf\nis cut off", width=10) == "whole\nha[?]lf"
  assert excerpt("x" * 20, "[?]", "y" * 20, width=5) == "xxxxx[?]yyyyy"
