"""The loss kernels every architecture and objective shares: arrays in, sums out."""

from t5x_style.losses.chosen import gather_targets, select_chosen
from t5x_style.losses.chunking import Chunking, chunks_of_device, plan_chunks
from t5x_style.losses.linear_cross_entropy import linear_cross_entropy
from t5x_style.losses.pair_classification import pair_classification_loss
from t5x_style.losses.sums import LossSums

__all__ = [
  "Chunking",
  "LossSums",
  "chunks_of_device",
  "gather_targets",
  "linear_cross_entropy",
  "pair_classification_loss",
  "plan_chunks",
  "select_chosen",
]
