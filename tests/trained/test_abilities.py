"""What models can do follows from their objectives; what they cannot do is refused with both."""

import pytest

from t5x_style.errors import UserError
from t5x_style.trained.abilities import abilities, ability_for
from tests.trained.random_models import trained

R = {"objective": "span_corruption", "mode": "[R]"}
S = {"objective": "prefix_lm", "mode": "[S]"}
X = {"objective": "span_corruption", "mode": "[X]"}


@pytest.mark.parametrize(
  ("architecture", "objectives", "expected"),
  [
    ("decoder_only", ["causal_lm"], {"continue": "decoder", "embed": "states"}),
    ("decoder_only", [], {"continue": "decoder", "embed": "states"}),
    (
      "decoder_only",
      ["fill_in_middle"],
      {"fill": "middle", "continue": "decoder", "embed": "states"},
    ),
    ("encoder_only", ["masked_lm"], {"fill": "masks", "embed": "states"}),
    ("encoder_only", ["next_sentence"], {"fill": "masks", "embed": "states"}),
    ("encoder_only", ["classification"], {"classify": "label", "embed": "states"}),
    (
      "encoder_decoder",
      ["text_to_text"],
      {"continue": "encoder_decoder", "embed": "states"},
    ),
    ("decoder_only", ["text_to_text"], {"continue": "decoder", "embed": "states"}),
    (
      "encoder_only",
      ["masked_diffusion"],
      {"fill": "unmasking", "continue": "unmasking", "embed": "states"},
    ),
    ("encoder_decoder", ["span_corruption"], {"fill": "spans", "embed": "states"}),
    ("encoder_decoder", ["text_infilling"], {"fill": "infilling", "embed": "states"}),
    ("encoder_decoder", ["my_task"], {"continue": "encoder_decoder", "embed": "states"}),
    (
      "encoder_decoder",
      ["span_corruption", "prefix_lm"],
      {"fill": "spans", "continue": "encoder_decoder", "embed": "states"},
    ),
    (
      "encoder_decoder",
      [],
      {"fill": "spans", "continue": "encoder_decoder", "embed": "states"},
    ),
  ],
)
def test_tasks_and_methods(architecture, objectives, expected):
  found = abilities(trained(architecture, *objectives))
  assert {task: ability.method for task, ability in found.items()} == expected
  assert list(found) == list(expected)  # The first one is the default.


def test_modes_of_ul2():
  known = abilities(trained("encoder_decoder", R, R, S, X, X))
  assert known["fill"].modes == ("[R]", "[X]") and known["continue"].modes == ("[S]",)
  assert known["fill"].mode(None) == "[R]" and known["fill"].mode("[X]") == "[X]"
  assert known["continue"].mode(None) == "[S]"
  with pytest.raises(UserError, match=r"'\[Y\]' is not one .* of this task are \[R\], \[X\]"):
    known["fill"].mode("[Y]")
  plain = abilities(trained("encoder_decoder", "span_corruption"))["fill"]
  assert plain.mode(None) is None
  with pytest.raises(UserError, match="it has none"):
    plain.mode("[R]")
  only_long = abilities(trained("encoder_decoder", X, S))["fill"]
  assert only_long.mode(None) == "[X]"


def test_decoders_read_a_prefix_both_ways_as_they_were_trained():
  known = abilities(trained("decoder_only", R, S))
  assert known["fill"].both_ways and known["continue"].both_ways
  assert known["continue"].method == "decoder"
  assert not abilities(trained("decoder_only", "causal_lm"))["continue"].both_ways


def test_what_was_not_learnt_is_refused_with_what_was():
  with pytest.raises(UserError) as caught:
    ability_for(trained("decoder_only", "causal_lm"), "fill")
  message = str(caught.value)
  assert "decoder_only, trained with causal_lm: it cannot fill the holes of a text." in message
  assert "It can continue a text (--task=continue; .generate) or turn a text into" in message
  with pytest.raises(UserError, match="put a hole at its end"):
    ability_for(trained("encoder_decoder", "span_corruption"), "continue")
  with pytest.raises(UserError, match="It can fill the holes of a text"):
    ability_for(trained("encoder_only", "masked_lm"), "continue")
