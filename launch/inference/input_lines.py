"""Reads the lines of an input file: texts, or JSON objects with a text, one per line."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.errors import UserError

from ..process.errors import ConfigurationError

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_BLOCK = 1 << 20  # bytes that are read at once


class Request(NamedTuple):
  """One line of the input.

  Attributes:
    fields: what the output repeats: of a JSON object all fields, of a line {"text": line}.
    text: to continue, to fill or to embed; "" if there is an error.
    mode: the mode token that the line requests, None if it requests none.
    error: what is wrong with the line; "" if nothing is.
  """

  fields: dict[str, Any]
  text: str = ""
  mode: str | None = None
  error: str = ""


class InputFile:
  """The lines of a file.

  Attributes:
    path: of the file.
    count: how many lines it has.
    digest: SHA-256 of its content.
  """

  def __init__(self, path: str):
    """Reads the whole file once.

    Raises:
      ConfigurationError: it is no file that can be read twice.
    """
    self.path = Path(path).expanduser()
    if not self.path.exists():
      raise ConfigurationError(f"--input={path} does not exist.")
    if not stat.S_ISREG(os.stat(self.path).st_mode):
      raise ConfigurationError(f"--input={path} is no file; save what it gives in a file first.")
    self.is_json = self.path.suffix.lower() in JSON_SUFFIXES
    digest, self.count, last = hashlib.sha256(), 0, b"\n"
    with open(self.path, "rb") as file:
      while block := file.read(_BLOCK):
        digest.update(block)
        self.count += block.count(b"\n")
        last = block[-1:]
    self.count += last != b"\n"
    self.digest = digest.hexdigest()
    if not self.count:
      raise ConfigurationError(f"--input={path} is empty.")

  def requests(self, start: int = 0) -> Iterator[Request]:
    """Yields the lines from number `start` on, the first being 0."""
    with open(self.path, "rb") as file:
      for number, line in enumerate(file):
        if number >= start:
          yield self._request(line.removesuffix(b"\n").removesuffix(b"\r"))

  def _request(self, line: bytes) -> Request:
    try:
      text = line.decode()
    except UnicodeDecodeError as error:
      return Request({}, error=f"The line is not UTF-8, from byte {error.start} on.")
    return _of_json(text) if self.is_json else _checked({"text": text}, text, None)


def _of_json(line: str) -> Request:
  try:
    fields = json.loads(line)
  except (ValueError, RecursionError) as error:
    what = "empty" if not line.strip() else f"not JSON ({error})"
    return Request({}, error=f"The line is {what}.")
  if not isinstance(fields, dict):
    return Request({}, error=f'The line is no JSON object such as {{"text": "..."}}: {line[:80]}')
  mode = fields.get("mode")
  if mode is not None and not isinstance(mode, str):
    return Request(fields, error=f'"mode" is {mode!r}; it has to be a mode token such as "[S]".')
  try:
    return _checked(fields, _text_of(fields), mode)
  except UserError as error:
    return Request(fields, error=str(error))


def _text_of(fields: dict[str, Any]) -> str:
  """Returns the text of a JSON object, with a hole between "prefix" and "suffix" if it has these.

  Raises:
    UserError: there is none, or it is no text.
  """
  names = ("text",) if "text" in fields else ("prefix", "suffix")
  missing = [name for name in names if name not in fields]
  if missing:
    has = f"only {', '.join(fields)}" if fields else "nothing"
    raise UserError(f'The object has no "text", and not both of "prefix" and "suffix", but {has}.')
  for name in names:
    if not isinstance(fields[name], str):
      raise UserError(f'"{name}" is {json.dumps(fields[name])[:80]}; it has to be a text.')
  return "[MASK]".join(fields[name] for name in names)


def _checked(fields: dict[str, Any], text: str, mode: str | None) -> Request:
  if not text.strip():
    return Request(fields, error="The text is empty.")
  try:
    text.encode()
  except UnicodeEncodeError:
    return Request(fields, error="The text has half of a surrogate pair, which is no character.")
  return Request(fields, text, mode)
