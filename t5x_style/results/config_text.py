"""The settings in MODEL_DIR/config.gin, as text, and those in which runs differ; without gin."""

import io
import tokenize
from collections.abc import Mapping, Sequence

# Where a run writes is no difference between runs.
_NOT_COMPARED = ("MODEL_DIR", "train_config.TrainConfig.model_dir")
_IGNORED = (tokenize.COMMENT, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def settings(config: str) -> dict[str, str]:
  """Returns {name: value} of the lines `name = value` of a gin file, both as text.

  Comments are dropped, and values of several lines joined. What cannot be read is left out.
  """
  found: dict[str, str] = {}
  line: list[tokenize.TokenInfo] = []
  try:
    for token in tokenize.generate_tokens(io.StringIO(config).readline):
      if token.type == tokenize.NEWLINE:
        found |= _binding(line)
        line = []
      elif token.type not in _IGNORED:
        line.append(token)
  except (tokenize.TokenError, SyntaxError):  # The file is cut, or was written by something else.
    pass
  return found


def differences(runs: Sequence[Mapping[str, str]]) -> dict[str, list[str | None]]:
  """Returns {name: its value in each run} of the settings that are not the same in all runs.

  A value that refers to a macro, such as %BATCH_SIZE, is that of the macro; where all runs refer to
  the same one, only the macro is listed. None stands for a setting that a run does not have.
  """
  names = dict.fromkeys(name for run in runs for name in run if name not in _NOT_COMPARED)
  found: dict[str, list[str | None]] = {}
  for name in names:
    if len({run.get(name) for run in runs}) > 1:
      values = [_resolved(run, name) for run in runs]
      if len(set(values)) > 1:
        found[name] = values
  return found


def _binding(line: Sequence[tokenize.TokenInfo]) -> dict[str, str]:
  """Returns {name: value} of the tokens of one line; {} if it binds nothing."""
  signs = [token.string for token in line]
  if "=" not in signs[1:-1]:
    return {}
  place = signs.index("=")
  value = line[place + 1].string
  for before, token in zip(line[place + 1 :], line[place + 2 :], strict=False):
    value += ("" if before.end == token.start else " ") + token.string
  return {"".join(signs[:place]): value}


def _resolved(run: Mapping[str, str], name: str) -> str | None:
  value = run.get(name)
  for _ in range(10):  # Macros may refer to macros.
    if value is None or not value.startswith("%") or value[1:] not in run:
      break
    value = run[value[1:]]
  return value
