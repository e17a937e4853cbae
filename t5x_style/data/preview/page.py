"""A preview as one HTML page that is complete in itself: no script, no font, no other file."""

from collections.abc import Iterator, Mapping
from html import escape

import numpy as np

from t5x_style.data.preview.contents import Contents, shrunk
from t5x_style.data.preview.example import Tokens
from t5x_style.data.preview.measure import Preview
from t5x_style.data.preview.spans import MEANINGS, Span, sections, spans
from t5x_style.data.tokenizers.token_ids import TokenIds

_CELLS = 64
_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --paper: #fff; --line: #d8dee4; --soft: #59636e;
  --hidden: #ffe9a8; --masked: #ffd33d; --randomised: #f5b8e6; --sentinel: #a5e3ec; --mode: #a9e8b5;
  --special: #c3d7fb; --bar: #4b8bd4; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --paper: #12161b; --line: #343b44;
  --soft: #9aa5b1; --hidden: #5c4a00; --masked: #806400; --randomised: #6e2a5f; --sentinel: #0f5560;
  --mode: #1c5a2b; --special: #24447c; --bar: #5a9ae6; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
h3 { font-size: .85rem; color: var(--soft); font-weight: 600; margin: 1rem 0 .25rem; }
pre { font: 13px/1.55 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem; margin: 0; }
.hidden, .masked, .randomised, .sentinel, .mode, .special { border-radius: 3px; padding: 1px 0; }
.hidden { background: var(--hidden); } .masked { background: var(--masked); }
.randomised { background: var(--randomised); } .sentinel { background: var(--sentinel); }
.mode { background: var(--mode); } .special { background: var(--special); }
.padding { color: var(--soft); } .loss { box-shadow: inset 0 -2px var(--text); }
.legend span { margin-right: 1.2rem; padding: 1px 4px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child { text-align: left; font-weight: 400; color: var(--soft); }
.pictures { display: flex; gap: 2rem; flex-wrap: wrap; }
figure { margin: 0; } figcaption { font-size: .8rem; color: var(--soft); }
svg { display: block; border: 1px solid var(--line); } svg path { fill: var(--bar); }
"""


def page(contents: Contents) -> str:
  """Returns the text of the whole page."""
  heading = escape(contents.title)
  parts = [
    '<!doctype html><html lang="en"><head><meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    f"<title>{heading}</title><style>{_STYLE}</style></head><body><h1>{heading}</h1>",
    *_table(contents),
    *(f"<p>{escape(text)}</p>" for text in contents.remarks()),
    *_histograms(contents),
    '<h2>Examples</h2><p class="legend">',
    *(f'<span class="{kind}">{escape(text)}</span>' for kind, text in MEANINGS.items()),
    '<span class="loss">carries loss</span></p>',
  ]
  for part in contents.components:
    for number, example in enumerate(part.examples, 1):
      parts.append(f"<h2>{escape(part.name)}, example {number}</h2>")
      for name, tokens in sections(example):
        parts.append(f"<h3>{escape(name)}</h3><pre>{_text(tokens, contents.dataset.ids)}</pre>")
      if number == 1:
        parts += _pictures(contents.attention(example.features))
  return "\n".join([*parts, "</body></html>"]) + "\n"


def _text(tokens: Tokens, ids: TokenIds) -> str:
  return "".join(
    f'<span class="{span.kind}{" loss" if span.has_loss else ""}">{_visible(span)}</span>'
    for span in spans(tokens, ids)
  )


def _visible(span: Span) -> str:
  """Line ends are shown where they are of interest: in tokens that were changed or carry loss."""
  text = escape(span.text)
  return text if span.kind == "kept" and not span.has_loss else text.replace("\n", "↵\n")


def _table(contents: Contents) -> Iterator[str]:
  yield '<div class="scroll"><table><tr><th></th>'
  yield "".join(f"<th>{escape(name)}</th>" for name, _ in contents.columns) + "</tr>"
  for heading, cells in contents.figures():
    row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    yield f"<tr><th>{escape(heading)}</th>{row}</tr>"
  yield "</table></div>"


def _histograms(contents: Contents) -> Iterator[str]:
  drawn = [_histogram(part) for part in contents.components]
  if any(drawn):
    yield '<h2>Lengths of the hidden spans</h2><div class="pictures">'
    yield from drawn
    yield "</div>"


def _histogram(part: Preview) -> str:
  lengths = part.values()["span_lengths"]
  if not lengths:
    return ""
  longest, most = max(lengths), max(lengths.values())
  width, height = 240, 72
  step = width / longest
  wide = max(step - 1, 0.5)
  bars = "".join(
    f"M{(n - 1) * step:.1f} {height}v{-height * share / most:.1f}h{wide:.1f}V{height}z"
    for n, share in lengths.items()
  )
  return (
    f'<figure><svg width="{width}" height="{height}"><path d="{bars}"/></svg><figcaption>'
    f"{escape(part.name)}: 1 to {longest} tokens, highest bar {most:.1%}</figcaption></figure>"
  )


def _pictures(masks: Mapping[str, np.ndarray]) -> Iterator[str]:
  yield '<h3>who (rows) sees whom (columns)</h3><div class="pictures">'
  for side, mask in masks.items():
    cells = shrunk(mask, _CELLS)
    squares = "".join(f"M{x} {y}h1v1h-1z" for y, x in np.argwhere(cells))
    yield (
      f'<figure><svg width="160" height="160" viewBox="0 0 {cells.shape[1]} {len(cells)}" '
      'preserveAspectRatio="none" '
      f'shape-rendering="crispEdges"><path d="{squares}"/></svg>'
      f"<figcaption>{side}, {' x '.join(str(n) for n in dict.fromkeys(mask.shape))} positions"
      "</figcaption></figure>"
    )
  yield "</div>"
