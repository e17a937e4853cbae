"""The losses that all architectures and objectives share: arrays in, sums over tokens out.

Gin binds none of this: the options of a run are training.loss.LossOptions. CrossEntropyOptions, in
chunk_cross_entropy.py, is what the code of linear_cross_entropy passes on to its parts.
"""

from t5x_style.losses.chunk_cross_entropy import Chunking, chunks_of_device, plan_chunks
from t5x_style.losses.expert_balance import expert_balance
from t5x_style.losses.linear_cross_entropy import (
  LossSums,
  gather_targets,
  linear_cross_entropy,
  positions_with_loss,
)
from t5x_style.losses.pair_classification import pair_classification_loss

__all__ = [
  "Chunking",
  "LossSums",
  "chunks_of_device",
  "expert_balance",
  "gather_targets",
  "linear_cross_entropy",
  "pair_classification_loss",
  "plan_chunks",
  "positions_with_loss",
]
