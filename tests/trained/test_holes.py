"""Texts with holes: markers, spaces, and ids that are those of the text without the hole."""

import pytest

from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.errors import UserError
from t5x_style.trained import holes
from tests.trained.random_models import shipped_codec


def test_markers_of_all_models_are_holes():
  holed = holes.read(shipped_codec(), "a [MASK] b<extra_id_7> c <mask>")
  assert holed.count == 3
  assert holed.parts == ("a", " b", " c", "") and holed.spaces == (True, False, True)
  assert holed.joined([" x", "y", ""]) == "a x by c"
  with pytest.raises(UserError, match=r"no hole to fill: write \[MASK\]"):
    holes.read(shipped_codec(), "a [mask] b")


@pytest.mark.parametrize(
  ("before", "hidden", "after"),
  [("return self", ".width", " * 2"), ("for x in", " range", "(3):"), ("", "import", " os")],
)
def test_ids_with_the_hidden_text_are_those_of_the_whole_text(before, hidden, after):
  codec = shipped_codec()
  space = " " if hidden.startswith(" ") else ""
  holed = holes.read(codec, f"{before}{space}[MASK]{after}")
  whole = codec.encode(before + hidden + after)
  assert holed.ids_with([codec.encode(hidden)]) == whole
  assert holed.joined([holes.filling_text(codec, codec.encode(hidden), holed.spaces[0])]) == (
    before + hidden + after
  )


def test_bytes_do_not_join_a_space_with_a_word():
  holed = holes.read(ByteCodec(8), "a [MASK] b")
  assert holed.parts == ("a ", " b") and holed.spaces == (False,)


def test_special_tokens_that_a_model_wrote_are_no_text():
  codec = shipped_codec()
  ids = [codec.eos_id, *codec.encode("é"), codec.special_id("[MASK]"), int(codec.sentinel_ids[3])]
  assert holes.filling_text(codec, ids, False) == "é"


class WithDummyPrefix(ByteCodec):
  """Puts a space in front of every text and joins it with the first letter, as T5's vocabulary."""

  def encode(self, text):
    ids = super().encode(text)
    return [1000 + ids[0], *ids[1:]] if ids else []

  @property
  def visible_bytes(self):
    table = super()._piece_bytes()
    return {**dict(enumerate(table)), **{1000 + i: b" " + b for i, b in enumerate(table)}}


def test_no_space_is_put_into_the_middle_of_a_text():
  codec = WithDummyPrefix(8)
  plain = ByteCodec(8)
  holed = holes.read(codec, "ab[MASK]cd")
  assert holed.ids == (tuple(codec.encode("ab")), tuple(plain.encode("cd")))
