"""What a run on another machine prints, read over connections that break and repeat lines."""

import re
from collections.abc import Callable, Iterable

# What tpu_host.sh prints when a connection begins, and when the run has ended.
_BEGINS = re.compile(r"Log of the run that began at (\S+), from line (\d+):")
_ENDS = re.compile(r"The run ended with exit code (\d+)\.")
_RESUMES = re.compile(r"Resuming from step ([\d,]+)\.")


class RunLog:
  """Prints each line of a run once, and finds in them how far the run is.

  Attributes:
    began: when the run began that was read last; "" before one was.
    saved_step: the newest step that a run resumed from, so all before it is saved; None if no line
      said so. A new run says nothing.
  """

  def __init__(self, say: Callable[[str], None]):
    """Prints nothing yet; `say` prints a line."""
    self._say = say
    self.began = ""
    self._shown = 0  # lines of its log
    self.saved_step: int | None = None

  def request(self) -> list[str]:
    """Returns the arguments of `tpu_host.sh follow` for all lines that were not printed yet."""
    return [f"+{self._shown + 1}", *([self.began] if self.began else [])]

  def read(self, lines: Iterable[str]) -> int | None:
    """Prints the lines of a connection.

    Args:
      lines: each with its end; gcloud repeats its command, and so lines, where ssh fails.

    Returns:
      the exit code of the run; None if the connection broke before the run ended.
    """
    at, code = 1, None  # the number of the next line in the log
    for line in lines:
      text = line.rstrip("\n")
      if begins := _BEGINS.fullmatch(text):
        if begins[1] != self.began:
          self.began, self._shown = begins[1], 0
        at = int(begins[2])
        if at > self._shown + 1:
          self._say(text)
        continue
      ends = _ENDS.fullmatch(text)
      code = int(ends[1]) if ends else None
      if ends or at > self._shown:
        self._say(text)
      if line.endswith("\n") and not ends:
        self._shown, at = max(self._shown, at), at + 1
      if resumes := _RESUMES.fullmatch(text):
        step = int(resumes[1].replace(",", ""))
        self.saved_step = max(step, self.saved_step or 0)
    return code
