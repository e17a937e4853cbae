"""What a trained model can be used for: what its objectives taught it, and by which method."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.errors import UserError, require_positive
from t5x_style.inference.choice import Choice
from t5x_style.objective_tasks import TAUGHT, Method, Task
from t5x_style.trained.loaded_model import LoadedModel

_WHAT = {
  "continue": "continue a text (--task=continue; .generate)",
  "fill": "fill the holes of a text (--task=fill; .fill)",
  "classify": "tell which label a text has (--task=classify; .classify)",
  "embed": "turn a text into a vector (--task=embed; .embed)",
}


@dataclasses.dataclass(frozen=True)
class Ability:
  """How a model does a task.

  Attributes:
    task: what is done.
    method: how.
    modes: the mode tokens of UL2 that may be put in front, the default first; () if there are none.
    both_ways: whether a decoder reads what it is given in both directions.
    framed: whether [CLS] and [SEP] are around the text.
    ended: whether a decoder reads EOS after the text, as the end of what it is to answer.
  """

  task: Task
  method: Method
  modes: tuple[str, ...] = ()
  both_ways: bool = False
  framed: bool = False
  ended: bool = False

  def mode(self, requested: str | None) -> str | None:
    """Returns the mode token to put in front of the text; None requests the default.

    Raises:
      UserError: the model was not trained with the requested one.
    """
    if requested is None:
      return self.modes[0] if self.modes else None
    if requested not in self.modes:
      known = f"those of this task are {', '.join(self.modes)}" if self.modes else "it has none"
      raise UserError(
        f"The mode token {requested!r} is not one that the model was trained with; {known}."
      )
    return requested

  def check(
    self,
    mode: str | None,
    choice: Choice | None,
    steps: int | None,
    max_new_tokens: int,
    batch_size: int,
  ) -> None:
    """Checks settings of TrainedModel.generate and .fill.

    Raises:
      UserError: a number is below 1, or a setting is not one of this method.
    """
    require_positive(max_new_tokens=max_new_tokens, batch_size=batch_size, steps=steps)
    self.mode(mode)
    choice = choice or Choice()
    if self.method == "masks" and choice != Choice():
      raise UserError(
        "This model fills each hole with one token, and returns the likeliest ones: leave out "
        "temperature, top_k, top_p and beams."
      )
    if self.method == "unmasking" and (choice.beams > 1 or choice.top_k or choice.top_p < 1):
      raise UserError(
        "This model unmasks step by step: leave out beams, top_k and top_p; it takes a temperature."
      )
    if steps is not None and self.method != "unmasking":
      raise UserError(f"steps = {steps} is for models of masked diffusion; leave it out.")


def abilities(trained: LoadedModel) -> dict[Task, Ability]:
  """Returns what a model can do, by task; the default task is the first.

  A model whose objectives are not known, as one of Hugging Face, is taken for one of the usual
  objectives of its architecture and its vocabulary.
  """
  found: dict[Task, Ability] = {}
  for objective in trained.objectives:
    for ability in _of_objective(objective, trained):
      before = found.get(ability.task)
      if before is None:
        found[ability.task] = ability
      elif (before.method, before.both_ways) == (ability.method, ability.both_ways):
        modes = dict.fromkeys((*before.modes, *ability.modes))
        found[ability.task] = dataclasses.replace(before, modes=tuple(modes))
  if not found:
    found = {ability.task: ability for ability in _usual(trained)}
  return found | {"embed": Ability("embed", "states", framed=_framed(trained))}


def ability_for(trained: LoadedModel, task: Task) -> Ability:
  """Returns how a model does a task.

  Raises:
    UserError: its objectives have not taught it, or no model does it.
  """
  known = abilities(trained)
  if task in known:
    return known[task]
  names = sorted({str(o.get("objective")) for o in trained.objectives})
  what = f", trained with {' and '.join(names)}" if names else ""
  can = " or ".join(_WHAT[each] for each in known)
  hint = ""
  if task == "continue" and known.get("fill") and known["fill"].method in ("spans", "infilling"):
    hint = " To continue a text, put a hole at its end: 'The text [MASK]'."
  raise UserError(
    f"This model is {trained.config.architecture}{what}: it cannot "
    f"{_WHAT[task].partition(' (')[0]}. It can {can}.{hint}"
  )


def _of_objective(objective: Mapping[str, Any], trained: LoadedModel) -> Iterator[Ability]:
  name, mode = objective.get("objective"), objective.get("mode")
  decoder_only = trained.config.architecture == "decoder_only"
  for task, method in TAUGHT.get(str(name), ()):
    both_ways = decoder_only and (
      name in ("prefix_lm", "span_corruption") or bool(objective.get("bidirectional_inputs"))
    )
    if decoder_only and method == "encoder_decoder":
      method = "decoder"
    modes = (str(mode),) if mode else ()
    ended = decoder_only and name == "text_to_text"
    yield Ability(task, method, modes, both_ways, method in ("masks", "label"), ended)


def _usual(trained: LoadedModel) -> Iterator[Ability]:
  """Yields what models of an architecture usually can."""
  architecture, codec = trained.config.architecture, trained.codec
  if architecture == "encoder_only":
    yield Ability("fill", "masks", framed=True)
    return
  if architecture == "decoder_only":  # Tasks of the user's own with inputs: a prefix with its EOS.
    answers = bool(trained.objectives) and "inputs" in trained.row_lengths
    yield Ability("continue", "decoder", both_ways=answers, ended=answers)
    return
  if not trained.objectives:  # Of Hugging Face; a run on tasks has learnt to answer texts.
    if len(codec.sentinel_ids):
      yield Ability("fill", "spans")
    elif _has_mask(trained):
      yield Ability("fill", "infilling")
  yield Ability("continue", "encoder_decoder")


def _framed(trained: LoadedModel) -> bool:
  """Returns whether [CLS] and [SEP] were around the texts of an encoder's training."""
  names = {o.get("objective") for o in trained.objectives}
  return trained.config.architecture == "encoder_only" and names != {"masked_diffusion"}


def _has_mask(trained: LoadedModel) -> bool:
  try:
    trained.codec.special_id("[MASK]")
  except UserError:
    return False
  return True
