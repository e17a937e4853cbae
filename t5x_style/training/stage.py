"""One stage of a run whose data, lengths or batch size change at stated steps."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Stage:
  """A part of the steps of a run, trained with settings of its own.

  Attributes:
    name: of the user; "" for a run of one stage.
    number: counts from 1.
    first: the steps before it.
    last: the steps at its end; None: all steps of the run.
    past: the identities of the stages before it (t5x_style.training.resuming), each with
      "until_step".
  """

  name: str = ""
  number: int = 1
  first: int = 0
  last: int | None = None
  past: tuple[Mapping[str, Any], ...] = ()

  def data_seed(self, seed: int) -> int:
    """Returns the seed of the order and the noise of its data.

    The first stage has that of the run. Every other one has its own: with the same seed it would
    begin with the very rows that the stage before it has read.
    """
    if self.number == 1:
      return seed
    digest = hashlib.sha256(f"stage {self.number} of a run with seed {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "little")
