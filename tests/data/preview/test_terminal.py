"""A preview in the terminal."""

import io

from rich.console import Console

from t5x_style.data.preview import terminal
from t5x_style.data.preview.contents import FIGURES


def test_everything_is_printed(contents):
  out = io.StringIO()
  terminal.show(contents, Console(file=out, width=120, color_system=None))
  text = out.getvalue()
  for part in contents.components:
    assert f"{part.name}, example 1" in text
    assert f"{part.values()['target_tokens']:,.1f}" in text
  for heading, _ in FIGURES.values():
    assert heading in text
  assert "[MASK]" in text if contents.architecture == "encoder_only" else "<extra_id_0>" in text
  assert f"{contents.architecture.split('_')[0]} attention" in text
