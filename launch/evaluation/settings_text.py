"""Flags whose values are dictionaries."""

import ast
from typing import Any

from ..process.errors import ConfigurationError


def mapping(flag: str, text: str | None, example: str) -> dict[str, int] | None:
  """Returns a dictionary of whole numbers, such as '{"inputs": 512}'; None if there is no text.

  Raises:
    ConfigurationError: the text is something else.
  """
  if text is None:
    return None
  try:
    found: Any = ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    found = None
  if isinstance(found, dict) and found:
    if all(isinstance(k, str) and type(v) is int for k, v in found.items()):
      return found
  raise ConfigurationError(f"--{flag}={text} is not like {example}; write --{flag}='{example}'.")
