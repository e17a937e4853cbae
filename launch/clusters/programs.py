"""Calls gcloud and other programs, or only prints how they would be called."""

import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence

from t5x_style.errors import UserError

_LINES = 15  # of a program's error


class ProgramError(UserError):
  """A program failed; the message has its last lines.

  Attributes:
    code: its exit code; that of ssh is 255 where there is no connection.
  """

  def __init__(self, message: str, code: int):
    super().__init__(message)
    self.code = code


def _print(line: str) -> None:
  print(line, flush=True)  # Before the programs that are called print more.


class Programs:
  """Programs of the cloud, found on PATH. With `dry_run` they are printed and not called."""

  def __init__(self, dry_run: bool, say: Callable[[str], None] = _print):
    """Calls nothing yet; `say` prints a line."""
    self.dry_run = dry_run
    self.say = say

  def run(self, *words: str) -> None:
    """Calls a program, which prints to this terminal.

    Raises:
      ProgramError: it fails.
      UserError: it is not installed.
    """
    self._show(words)
    if not self.dry_run:
      self._check(words, _call(words, capture=False))

  def answer(self, *words: str, absent: str | None = None) -> str | None:
    """Returns what a program prints; None in a dry run, or if it fails with the error `absent`.

    Raises:
      ProgramError: it fails with another error.
      UserError: it is not installed.
    """
    if self.dry_run:
      self._show(words)
      return None
    done = _call(words, capture=True)
    if done.returncode and absent is not None and absent in done.stderr:
      return None
    self._check(words, done)
    return done.stdout

  def run_quietly(self, *words: str) -> None:
    """Calls a program as `run` does, and shows its output only if it fails."""
    self._show(words)
    if not self.dry_run:
      self._check(words, _call(words, capture=True))

  def lines(self, *words: str) -> Iterator[str]:
    """Calls a program, and yields what it prints line by line, with their ends.

    Raises:
      UserError: it is not installed.
    """
    self._show(words)
    if self.dry_run:
      return
    with _started(words) as process:
      assert process.stdout is not None
      yield from process.stdout

  def _show(self, words: Sequence[str]) -> None:
    self.say(f"$ {shlex.join(words)}")

  def _check(self, words: Sequence[str], done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
      lines = ((done.stdout or "") + (done.stderr or "")).strip().splitlines()[-_LINES:]
      told = "".join(f"\n  {line}" for line in lines)
      raise ProgramError(
        f"This command failed with exit code {done.returncode}: {shlex.join(words)}{told}",
        done.returncode,
      )


def _call(words: Sequence[str], capture: bool) -> subprocess.CompletedProcess[str]:
  try:
    return subprocess.run(
      words, stdin=subprocess.DEVNULL, capture_output=capture, text=True, errors="replace"
    )
  except FileNotFoundError as error:
    raise _not_found(words) from error


def _started(words: Sequence[str]) -> subprocess.Popen[str]:
  try:
    return subprocess.Popen(
      words,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      text=True,
      errors="replace",
    )
  except FileNotFoundError as error:
    raise _not_found(words) from error


def _not_found(words: Sequence[str]) -> UserError:
  return UserError(f"The program {words[0]!r} is not installed, or not on PATH.")
