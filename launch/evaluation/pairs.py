"""Accuracy on minimal pairs, as BLiMP's: is the grammatical sentence the likelier one?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.progress import track

from t5x_style.errors import UserError, shortened
from t5x_style.trained import scoring
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.scores import Method
from t5x_style.trained.scoring_methods import choose_method

from ..checkpoints.output import table
from ..process.exit_codes import ExitCode
from . import minimal_pairs, trained_model
from .minimal_pairs import GROUPINGS, Accuracies, Accuracy, LeftOut, Pair

FLAGS = ("step", "method", "mesh", "json")
WORDS = ("MODEL", "FILE...")


def run(values: Any, words: Sequence[str]) -> int:
  files = minimal_pairs.files_of(words[1:])
  read = list(minimal_pairs.read(files))
  left_out = [line for line in read if isinstance(line, LeftOut)]
  pairs = [line for line in read if isinstance(line, Pair)]
  if not pairs:
    raise UserError("\n".join([f"{words[1]} holds no pair.", *_listed(left_out)]))
  model = trained_model.load(words[0], values)
  options = scoring.Options(method=values.method)
  method = choose_method(model, values.method, has_targets=False)
  good, too_long = _that_fit(model, pairs, options)
  left_out += too_long
  if not good:
    raise UserError("\n".join(["No pair can be scored by this model.", *_listed(left_out)]))
  accuracies = _measured(model, good, options)
  if values.json:
    print(json.dumps(_object(model, method, files, accuracies, left_out)))
  else:
    print(_text(model, method, accuracies))
  if left_out:
    count = "1 line was" if len(left_out) == 1 else f"{len(left_out):,} lines were"
    print("\n".join(["", f"{count} left out:", *_listed(left_out)]), file=sys.stderr)
  return ExitCode.BAD_LINES if left_out else ExitCode.FINISHED


def _that_fit(
  model: LoadedModel, pairs: Sequence[Pair], options: scoring.Options
) -> tuple[list[Pair], list[LeftOut]]:
  """Returns the pairs that the model can score, and why it cannot score the others."""
  good, left_out = [], []
  for pair in pairs:
    try:
      scoring.score(model, [pair.good, pair.bad], None, options)  # Checks; computes nothing.
      good.append(pair)
    except UserError as error:
      reason = str(error)
      for index, name in enumerate(("sentence_good", "sentence_bad")):
        reason = reason.replace(f"texts[{index}]", name)
      left_out.append(LeftOut(pair.place, reason))
  return good, left_out


def _measured(model: LoadedModel, pairs: Sequence[Pair], options: scoring.Options) -> Accuracies:
  texts = list(dict.fromkeys(text for pair in pairs for text in (pair.good, pair.bad)))
  console = Console(stderr=True)
  scores = track(
    scoring.score(model, texts, None, options),
    "Scoring",
    len(texts),
    console=console,
    transient=True,
    disable=not console.is_terminal,
  )
  totals = {text: score.total for text, score in zip(texts, scores, strict=True)}
  return minimal_pairs.count(pairs, totals.__getitem__)


def _object(
  model: LoadedModel,
  method: Method,
  files: Sequence[Any],
  accuracies: Accuracies,
  left_out: Sequence[LeftOut],
) -> dict[str, Any]:
  return {
    "model": model.path,
    "step": model.step,
    "method": method.name,
    "meaning": method.meaning,
    "files": [str(file) for file in files],
    **accuracies.total.as_json(),
    "mean_of_uids": accuracies.mean_of_uids,
    "groups": {
      grouping: {group: accuracy.as_json() for group, accuracy in of_group.items()}
      for grouping, of_group in accuracies.groups.items()
    },
    "left_out": [line._asdict() for line in left_out],
  }


def _text(model: LoadedModel, method: Method, accuracies: Accuracies) -> str:
  lines = [model.path, f"Sentences are scored by {method.name}: {method.meaning}.", ""]
  rows = []
  for grouping in GROUPINGS:
    of_group = accuracies.groups[grouping]
    rows += [_cells(f"{grouping} {group}", x) for group, x in sorted(of_group.items())]
  rows.append(_cells("all pairs", accuracies.total))
  lines.append(table(["accuracy", "95 % interval", "pairs", "ties", ""], rows))
  lines += ["", f"Mean over the UIDs: {100 * accuracies.mean_of_uids:.2f} %"]
  if accuracies.total.ties:
    lines.append(f"{accuracies.total.ties:,} ties are counted as wrong.")
  return "\n".join(lines)


def _cells(name: str, accuracy: Accuracy) -> list[str]:
  low, high = accuracy.interval
  return [
    f"{100 * accuracy.share:.2f} %",
    f"{100 * low:.1f} - {100 * high:.1f}",
    f"{accuracy.pairs:,}",
    f"{accuracy.ties:,}",
    name,
  ]


def _listed(left_out: Sequence[LeftOut]) -> list[str]:
  return shortened([f"  {line.place}: {line.reason}" for line in left_out])
