"""Holes that a decoder fills: spans (T5, UL2), text infilling (BART), fill in the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence

from t5x_style.inference.generation import Continuation
from t5x_style.inference.row_batches import longest_row
from t5x_style.inference.written_holes import spans_after_sentinels, spans_between_parts
from t5x_style.trained.filled import Candidate, Filled, of_span, ranked
from t5x_style.trained.holes import HoledText
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.prompts import Prompt
from t5x_style.trained.writing import Writing


def fill_middle(
  trained: LoadedModel, prompts: Sequence[Prompt], writing: Writing, new_tokens: int
) -> list[Filled]:
  """Fills the one hole of each text, up to the EOS that the decoder writes."""
  written = writing.after(trained, [p.decoder for p in prompts], (), [new_tokens] * len(prompts))
  results = []
  for prompt, continuations in zip(prompts, written, strict=True):
    holed = _holed(prompt)
    found = [
      of_span(trained.codec, one, (0, len(one.tokens) - one.finished), holed.spaces[0])
      for one in continuations
    ]
    results.append(_filled(holed, [found], writing.candidates))
  return results


def fill_spans(
  trained: LoadedModel, prompts: Sequence[Prompt], writing: Writing, new_tokens: int
) -> list[Filled]:
  """Fills the holes of each text with what the decoder writes after their sentinels.

  A decoder that leaves out a sentinel is given it, after what it wrote into earlier holes, and
  continues from there. Holes that come after the last learned position have no candidates.
  """
  limit = longest_row(trained.model) or math.inf
  sentinels = [int(i) for i in trained.codec.sentinel_ids]
  found: list[list[list[Candidate]]] = [[] for _ in prompts]  # of each text, by hole
  starts = [list(p.decoder) for p in prompts]
  left = list(range(len(prompts)))
  while left:
    written = writing.after(
      trained,
      [starts[i] for i in left],
      [prompts[i].encoder for i in left] if prompts[left[0]].encoder else (),
      [new_tokens] * len(left),
      numbers=left,
      prefixes=[len(prompts[i].decoder) for i in left],  # What was written since is read one way.
    )
    for i, continuations in zip(left, written, strict=True):
      holed = _holed(prompts[i])
      new = _next_holes(trained, holed, len(found[i]), starts[i][-1], continuations)
      for candidates in new:
        if starts[i][-1] != sentinels[len(found[i])]:
          starts[i].append(sentinels[len(found[i])])
        starts[i] += candidates[0].tokens
        found[i].append(candidates)
      if len(found[i]) < holed.count:
        starts[i].append(sentinels[len(found[i])])
    left = [i for i in left if len(found[i]) < _holed(prompts[i]).count and len(starts[i]) <= limit]
  return [
    _filled(_holed(prompt), each, writing.candidates)
    for prompt, each in zip(prompts, found, strict=True)
  ]


def _next_holes(
  trained: LoadedModel,
  holed: HoledText,
  first: int,
  last_read: int,
  continuations: Sequence[Continuation],
) -> list[list[Candidate]]:
  """Returns the candidates of the holes from `first` on that the best continuation fills in order.

  Args:
    last_read: the last token that the decoder was given: the sentinel of `first`, or none.
  """
  codec, sentinels = trained.codec, [int(i) for i in trained.codec.sentinel_ids]
  given = [last_read] if last_read == sentinels[first] else []
  spans = []
  for one in continuations:
    whole = [*given, *one.tokens.tolist()]
    found = spans_after_sentinels(whole, sentinels, codec.eos_id, holed.count)
    spans.append({k: (a - len(given), b - len(given)) for k, (a, b) in found.items()})
  result: list[list[Candidate]] = []
  while first + len(result) in spans[0]:
    hole = first + len(result)
    result.append(
      [
        of_span(codec, one, each[hole], holed.spaces[hole])
        for one, each in zip(continuations, spans, strict=True)
        if hole in each
      ]
    )
  return result


def fill_by_rewriting(
  trained: LoadedModel, prompts: Sequence[Prompt], writing: Writing, new_tokens: int
) -> list[Filled]:
  """Fills the holes of each text with what the decoder writes between the parts of the text.

  The decoder is given the text before the first hole. Where it does not repeat the text after a
  hole, the rest of the holes have no candidates, and the text is what it wrote.
  """
  codec = trained.codec
  rest = [sum(map(len, _holed(p).ids[1:])) + 1 for p in prompts]
  written = writing.after(
    trained,
    [p.decoder for p in prompts],
    [p.encoder for p in prompts],
    [new_tokens + count for count in rest],
  )
  results = []
  for prompt, continuations in zip(prompts, written, strict=True):
    holed = _holed(prompt)
    each = [
      (one, spans_between_parts(one.tokens.tolist(), holed.ids[1:], codec.eos_id))
      for one in continuations
    ]
    # The best one that repeats the text, if there is one.
    each.sort(key=lambda pair: len(pair[1]) < holed.count)
    found = [
      [
        of_span(codec, one, spans[hole], holed.spaces[hole])
        for one, spans in each
        if hole < len(spans)
      ]
      for hole in range(len(each[0][1]))
    ]
    if len(found) == holed.count:
      results.append(_filled(holed, found, writing.candidates))
      continue
    text = holed.parts[0] + codec.decode_visible(
      i for i in each[0][0].tokens.tolist() if i not in codec.marks
    )
    missing = [()] * (holed.count - len(found))
    results.append(Filled(text, (*(ranked(x, writing.candidates) for x in found), *missing)))
  return results


def _holed(prompt: Prompt) -> HoledText:
  assert prompt.holed is not None, "The prompt is not one of prompts.filled."
  return prompt.holed


def _filled(holed: HoledText, found: Sequence[Sequence[Candidate]], most: int) -> Filled:
  missing = [()] * (holed.count - len(found))
  candidates = tuple(ranked(each, most) for each in (*found, *missing))
  return Filled(holed.joined([each[0].text if each else "" for each in candidates]), candidates)
