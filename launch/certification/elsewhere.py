"""Recipes whose text is not at hand: their gin files, and the figures to compare with."""

import functools
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from . import certificate
from .catalogue import ABOUT
from .recipe import Context, Recipe


class _Figure(NamedTuple):
  """A published loss.

  Attributes:
    gin_file: in gin_configs/certificate/.
    data: what it needs.
    published: nats per token.
    where: the source of the figure, and what it is.
  """

  gin_file: str
  data: str
  published: float
  where: str


_FIGURES = (
  _Figure(
    "t5_1_1_base_c4",
    "C4 (305 GB) and T5's SentencePiece model",
    1.942,
    "Shazeer 2020, table 1: GEGLU, 65,536 steps of 128 x 512 tokens",
  ),
  _Figure(
    "gpt2_fineweb",
    "FineWeb in GPT-2's tokens (20 GB)",
    3.28,
    "llm.c, github.com/karpathy/llm.c/discussions/481: GPT-2 124M, 10 billion tokens",
  ),
  _Figure(
    "llama_15m_tinystories",
    "TinyStories (2 GB) and llama2.c's vocabulary",
    1.072,
    "github.com/karpathy/llama2.c, README: 15M parameters",
  ),
)


def recipes() -> Iterator[Recipe]:
  """Yields recipes that are never run here; each says what it needs."""
  for figure in _FIGURES:
    yield Recipe(figure.gin_file, functools.partial(_missing, figure), _never)


def line(recipe: Recipe, reason: str) -> certificate.Line:
  """Returns the line of a recipe that was not run, with the published figure if it has one."""
  for figure in _FIGURES:
    if figure.gin_file == recipe.name:
      claim = f"held-out loss, nats per token: {figure.where}"
      return certificate.Line(recipe.name, claim, "not run", figure.published, reason=reason)
  return certificate.Line(recipe.name, ABOUT[recipe.name], "not run", reason=reason)


def _missing(figure: _Figure, context: Context) -> str:
  del context
  return f"needs {figure.data}: python -m launch.train --gin_file=certificate/{figure.gin_file}.gin"


def _never(context: Context) -> NoReturn:
  raise AssertionError("A recipe runs only if `missing` is empty.")
