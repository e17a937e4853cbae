"""What each objective teaches a model to do, and by which method it then does that."""

from collections.abc import Mapping
from typing import Literal

Task = Literal["continue", "fill", "classify", "embed"]
Method = Literal[
  "decoder",  # continues what it reads
  "encoder_decoder",  # the encoder reads, the decoder writes
  "unmasking",  # masked diffusion: masks become text step by step
  "masks",  # one token for each [MASK]
  "spans",  # the decoder writes each hole after its sentinel (T5)
  "infilling",  # the decoder writes the whole text (BART)
  "middle",  # [PRE] prefix [SUF] suffix [MID]: a decoder writes the middle
  "label",  # the head on the first token
  "states",  # vectors of the last block
]

# {objective: its tasks, the first of which is the one that a user is shown}. A model of any other
# objective does what models of its architecture usually do.
TAUGHT: Mapping[str, tuple[tuple[Task, Method], ...]] = {
  "causal_lm": (("continue", "decoder"),),
  "prefix_lm": (("continue", "encoder_decoder"),),
  "fill_in_middle": (("fill", "middle"), ("continue", "decoder")),
  "span_corruption": (("fill", "spans"),),
  "text_infilling": (("fill", "infilling"),),
  "masked_lm": (("fill", "masks"),),
  "next_sentence": (("fill", "masks"),),
  "sentence_order": (("fill", "masks"),),
  "text_to_text": (("continue", "encoder_decoder"),),
  "classification": (("classify", "label"),),
  "masked_diffusion": (("fill", "unmasking"), ("continue", "unmasking")),
}
