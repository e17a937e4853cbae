"""The exit codes of the commands: how a process ended, and whether to start it again."""

import enum
import signal


class ExitCode(enum.IntEnum):
  """Each has a sentence that says what it means, and whether to start the same command again.

  65 and 75 are EX_DATAERR and EX_TEMPFAIL of BSD's sysexits.h; launchers use 75, "try again later",
  for a preempted job (torchx, submitit). 130 and 141 are a shell's for SIGINT and SIGPIPE.
  """

  FINISHED = 0, "The command is done.", "no"
  UNEXPECTED = 1, "An error that is not in this table.", "a few times"
  MISTAKE = 2, "A flag, a setting or a file is wrong; the message says which.", "no"
  DIVERGED = 3, "The loss, a gradient or the state is not finite.", "no"
  STORAGE = 4, "Files cannot be stored, for example because a disk is full.", "when there is room"
  BAD_LINES = (
    65,
    "Some lines of the input could not be used; the output says why, the rest is done.",
    "no",
  )
  PREEMPTED = 75, "SIGTERM or SIGHUP stopped it, and all that it computed is saved.", "yes"
  PROCESS_LOST = (
    76,
    "Another process of its job is lost, this one hung, or another run took its MODEL_DIR.",
    "yes",
  )
  INTERRUPTED = 130, "Ctrl-C stopped it; a training run has saved.", "as you wish"
  OUTPUT_CLOSED = 141, "What read its output has ended; training continues instead.", "no"

  meaning: str
  start_again: str

  def __new__(cls, code: int, meaning: str, start_again: str) -> "ExitCode":
    member = int.__new__(cls, code)
    member._value_ = code
    member.meaning, member.start_again = meaning, start_again
    return member


def of_stopped_run(signal_name: str | None) -> ExitCode:
  """Returns the code of a run that has saved; the signal that stopped it, None if it finished."""
  if signal_name is None:
    return ExitCode.FINISHED
  return ExitCode.INTERRUPTED if signal_name == signal.SIGINT.name else ExitCode.PREEMPTED


def table() -> str:
  """Returns all codes as a table in Markdown."""
  lines = ["| exit code | what it means | start the same command again? |", "|---|---|---|"]
  lines += [f"| {code.value} | {code.meaning} | {code.start_again} |" for code in ExitCode]
  return "\n".join(lines) + "\n"
