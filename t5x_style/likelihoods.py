"""What the loss of an objective is the likelihood of, so that its bits per byte can be read."""

from typing import NamedTuple


class Likelihood(NamedTuple):
  """What bits per byte mean for an objective: nats / ln 2 / UTF-8 bytes of the tokens with loss.

  Attributes:
    name: a few words.
    what: a sentence about the bits and the bytes.
    comparable: whether its bits per byte may be ranked with those of all comparable objectives.
      Those of the others may only be ranked with the same objective on the same text.
  """

  name: str
  what: str
  comparable: bool


EXACT = Likelihood("exact", "The likelihood of the whole text, from left to right.", True)
SUFFIX = Likelihood(
  "exact on the suffix",
  "The likelihood of the suffixes, given their prefixes; the bytes are those of the suffixes.",
  True,
)
BOUND = Likelihood(
  "bound",
  "An upper bound on the bits of the whole text, with one draw of the noise for each window.",
  True,
)
CONDITIONAL = Likelihood(
  "conditional",
  "The likelihood of the target text, given inputs that show the text around it, or parts of it.",
  False,
)
PSEUDO = Likelihood(
  "pseudo-likelihood",
  "The likelihood of each hidden token by itself, given those on both sides that are not hidden.",
  False,
)
