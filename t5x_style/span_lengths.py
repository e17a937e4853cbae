"""The lengths of span corruption's inputs and targets: plain arithmetic that every room may use."""

from typing import NamedTuple

from t5x_style.errors import UserError


class DenoiserLengths(NamedTuple):
  """Static lengths, in tokens, of an example of a span denoiser."""

  raw: int  # the window of text
  noise: int  # hidden tokens
  spans: int  # hidden spans, one sentinel each
  inputs: int  # what remains, the sentinels and EOS
  targets: int  # what was hidden, the sentinels and EOS


def lengths_of_window(raw: int, noise_density: float, mean_span: float) -> DenoiserLengths:
  """Returns the lengths when `raw` tokens are corrupted (Raffel et al. 2019, section 3.1.4)."""
  hidden = min(max(round(raw * noise_density), 1), raw - 1)
  spans = max(1, round(hidden / mean_span))
  spans = min(spans, hidden, raw - hidden + 1)
  return DenoiserLengths(raw, hidden, spans, raw - hidden + spans + 1, hidden + spans + 1)


def lengths_for_inputs(inputs: int, noise_density: float, mean_span: float) -> DenoiserLengths:
  """Returns the lengths of the longest window whose corrupted form fits `inputs` tokens.

  At density .5 one token less is taken where the targets would come out one longer than the
  inputs, as T5 does. (512, .15, 3) -> raw 568, targets 114, spans 28.

  Raises:
    UserError: `inputs` is below 4.
  """
  if inputs < 4:
    raise UserError(f"no window of two tokens fits {inputs} inputs tokens; 4 is the least")
  raw = 2
  while lengths_of_window(raw + 1, noise_density, mean_span).inputs <= inputs:
    raw += 1
  result = lengths_of_window(raw, noise_density, mean_span)
  if noise_density == 0.5 and result.targets > result.inputs:
    result = lengths_of_window(raw - 1, noise_density, mean_span)
  return result


def lengths_for_total(total: int, noise_density: float, mean_span: float) -> DenoiserLengths:
  """Returns the lengths of the longest window whose inputs and targets fit one row of a decoder.

  Raises:
    UserError: `total`, the tokens of the row, is below 6.
  """
  if total < 6:
    raise UserError(f"no window of two tokens fits a row of {total} tokens; 6 is the least")
  raw = 2
  while True:
    longer = lengths_of_window(raw + 1, noise_density, mean_span)
    if longer.inputs + longer.targets > total:
      return lengths_of_window(raw, noise_density, mean_span)
    raw += 1
