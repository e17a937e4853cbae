"""Comparison: which candidates are trained, with which budget, and how they are judged."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from annotated_types import MinLen

from t5x_style.comparison.measures import MEASURES
from t5x_style.errors import UserError
from t5x_style.setting_types import NonNegativeInt, PositiveFloat, PositiveInt, Seed, Text

Budget = Literal["flops", "tokens", "seconds"]


@dataclasses.dataclass(frozen=True)
class Comparison:
  """The settings of a comparison; gin_configs/compare.gin binds them.

  Attributes:
    candidates: {name: gin files and "NAME = value" bindings} of each objective and model. A run
      reads the gin files of the command line, then those of its candidate; bindings come last.
    budget: what is equal for all: the FLOPs of training (t5x_style.training.flops), the tokens that
      the model reads and writes (without padding; counted in some hundred rows), or the seconds of
      training steps (a short run of each candidate measures its speed).
    amount: of the budget, for each run.
    seeds: of the runs of each candidate: of the initial parameters, the order and the noise.
    shared: gin files and bindings that follow those of every candidate.
    compare_dir: the folder of everything that is written.
    at_once: runs at the same time. On GPUs each has some of them; on CPUs each has some cores.
    halve_by: None: every candidate gets the whole budget. The name of a measure that all have, such
      as "choice_of_four": successive halving (Jamieson & Talwalkar 2015, arXiv 1502.07943).
    passages: how many held-out passages every model completes and fills.
    passage_bytes: about how long they are, in bytes of UTF-8.
    pairs_file: minimal pairs in BLiMP's format, a pattern; None: only those made of held-out text.
    classification: gin files and bindings of a labelled corpus, on which every model is fine-tuned;
      None leaves it out.
    classification_steps: of fine-tuning.
  """

  candidates: Annotated[Mapping[Text, tuple[Text, ...]], MinLen(1)]
  compare_dir: Text
  amount: PositiveFloat
  budget: Budget = "flops"
  seeds: Annotated[tuple[Seed, ...], MinLen(1)] = (0, 1, 2)
  shared: tuple[Text, ...] = ()
  at_once: PositiveInt = 1
  halve_by: Text | None = None
  passages: PositiveInt = 120
  passage_bytes: PositiveInt = 240
  pairs_file: Text | None = None
  classification: tuple[Text, ...] | None = None
  classification_steps: NonNegativeInt = 150

  def __post_init__(self):
    folders: dict[str, str] = {}
    for name in self.candidates:
      other = folders.setdefault(folder_name(name), name)
      if other != name:
        raise UserError(
          f"The candidates {other!r} and {name!r} would share the folder {folder_name(name)!r}: "
          "let them differ in letters or digits."
        )
    if len(set(self.seeds)) < len(self.seeds):
      raise UserError(f"SEEDS = {self.seeds!r} names a seed twice.")
    if self.halve_by is not None and self.halve_by not in RANKED:
      raise UserError(
        f"HALVE_BY = {self.halve_by!r} is no measure that ranks models; there are "
        f"{', '.join(RANKED)}."
      )
    for measure, name in (("classification", "CLASSIFICATION"), ("blimp", "PAIRS_FILE")):
      if self.halve_by == measure and getattr(self, name.lower()) is None:
        raise UserError(f"HALVE_BY = {measure!r} needs {name}, which is None; set it.")
    if "://" in self.compare_dir:
      raise UserError(
        f"COMPARE_DIR = {self.compare_dir!r} is no local folder, which a comparison needs; copy it "
        "to a bucket at the end."
      )


RANKED = tuple(name for name, measure in MEASURES.items() if measure.better)


def folder_name(candidate: str) -> str:
  """Returns the part of file names that stands for a candidate: "masked LM" gives masked-lm."""
  return re.sub(r"[^a-z0-9]+", "-", candidate.lower()).strip("-") or "candidate"
