"""Spans of tokens that are shown in one style."""

from t5x_style.data.preview.spans import spans


def test_spans_say_what_a_token_is(contents):
  if contents.architecture != "encoder_only":
    return
  ids, tokens = contents.dataset.ids, contents.preview.examples[0].inputs
  found = list(spans(tokens, ids))
  assert found[0] == ("[CLS]", "special", False)
  assert ("[MASK]", "masked", True) in [span for span in found if span.text == "[MASK]"]
  whole = "".join(span.text for span in found)
  assert whole == ids.decode_visible(tokens.ids)
  short = list(spans(tokens, ids, limit=10))
  assert short[-1].text == f" ... and {len(tokens.ids) - 10} more"
