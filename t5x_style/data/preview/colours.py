"""The texts of a row in the colours of a terminal."""

from rich.text import Text

from t5x_style.data.preview.example import Tokens
from t5x_style.data.preview.spans import MEANINGS, spans
from t5x_style.data.tokenizers.token_ids import TokenIds

_STYLES = {
  "kept": "",
  "hidden": "yellow",
  "masked": "bold yellow",
  "randomised": "bold magenta",
  "sentinel": "bold cyan",
  "mode": "bold green",
  "special": "blue",
  "padding": "dim",
}


def legend() -> Text:
  """Returns the words for the kinds of tokens, each in its style."""
  parts = [Text(MEANINGS[kind], _STYLES[kind]) for kind in MEANINGS]
  return Text("  ").join([*parts, Text("with loss", "underline")])


def coloured(tokens: Tokens, ids: TokenIds, limit: int | None = None) -> Text:
  """Returns the first `limit` tokens as one text."""
  text = Text()
  for span in spans(tokens, ids, limit):
    style = f"{_STYLES[span.kind]} {'underline' if span.has_loss else ''}".strip()
    text.append(span.text.replace("\n", "↵ ").replace("\t", "→"), style)
  return text
