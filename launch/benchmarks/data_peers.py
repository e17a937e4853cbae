"""Other packages on the same documents and pairs, for launch.benchmark data.

Each is used as its authors show it. One that is not installed is named and left out:

    pip install --no-deps t5; pip install babel editdistance nltk rouge-score sacrebleu scikit-learn
    pip install transformers torch grain

t5's other requirements are nightly builds of SeqIO and TFDS and mesh-tensorflow, which its data
needs not. transformers has no collator for T5: DataCollatorForT5MLM was in one of its examples.
"""

import functools
import importlib
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import seqio

from t5x_style.data.tensorflow_setup import tf

from .data_rates import Batch, Count, dataset_of, filled

_MASK_RATE = 0.15


class Inputs(NamedTuple):
  """What is measured on, the same for every package.

  Attributes:
    documents: tokens of each, int32 [n].
    pairs: the tokens of both sides of each example.
    pair_lengths: of the rows that pairs share, {"inputs": 512, "targets": 128}.
    rows: of a batch.
    vocabulary: of the tokens.
  """

  documents: Sequence[np.ndarray]
  pairs: Sequence[Mapping[str, np.ndarray]]
  pair_lengths: Mapping[str, int]
  rows: int
  vocabulary: Any


class Peer(NamedTuple):
  """What a package is measured at.

  Attributes:
    label: what it does.
    packages: the names of those it needs, as pip knows them; the first one's version is shown.
    make: returns endless batches and a function that counts the raw tokens of one.
  """

  label: str
  packages: tuple[str, ...]
  make: Callable[[Inputs], tuple[Iterator[Batch], Count]]


def measured(peer: Peer, inputs: Inputs) -> tuple[str, tuple[Iterator[Batch], Count] | None]:
  """Returns the label of a row, and what is measured; None if a package is not installed."""
  for package in peer.packages:
    try:
      importlib.import_module(package)
    except ImportError as error:
      return f"{peer.label}: not installed ({error.name or package})", None
  return f"{peer.label} {importlib.metadata.version(peer.packages[0])}", peer.make(inputs)


def t5_span_corruption(inputs: Inputs) -> tuple[Iterator[Batch], Count]:
  """T5's own span corruption, as a SeqIO task and SeqIO's feature converter make batches of it."""
  from t5.data import preprocessors

  lengths, raw = {"inputs": 512, "targets": 114}, 568
  endless = dataset_of([{"targets": tokens} for tokens in inputs.documents]).repeat()

  def read(split, shuffle_files, seed=None):
    del split, shuffle_files, seed
    return endless

  feature = seqio.Feature(inputs.vocabulary, add_eos=True, dtype=tf.int32)
  task = seqio.Task(
    "t5_span_corruption",
    source=seqio.FunctionDataSource(read, splits=["train"]),
    preprocessors=[preprocessors.span_corruption, seqio.preprocessors.append_eos_after_trim],
    output_features={"inputs": feature, "targets": feature},
  )
  examples = task.get_dataset(lengths, "train", shuffle=False, seed=0)
  rows = seqio.EncDecFeatureConverter(pack=False)(examples, lengths)
  return _arrays(rows, inputs.rows), functools.partial(_whole_rows, raw)


def seqio_pairs(inputs: Inputs) -> tuple[Iterator[Batch], Count]:
  """SeqIO's converter, which packs: it fills rows one after the other."""
  rows = seqio.EncDecFeatureConverter(pack=True)(
    dataset_of(inputs.pairs).repeat(), dict(inputs.pair_lengths)
  )
  return _arrays(rows, inputs.rows), filled


def transformers_masked_lm(inputs: Inputs) -> tuple[Iterator[Batch], Count]:
  """Transformers' collator in PyTorch's DataLoader, with a process for each processor."""
  import tokenizers
  import torch
  import transformers

  length, marks = 512, {"pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "[MASK]"}
  names = [f"<{i}>" for i in range(inputs.vocabulary.vocab_size - len(marks))]
  words = {name: i for i, name in enumerate([*marks.values(), *names])}
  model = tokenizers.models.WordLevel(words, unk_token="<unk>")
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizers.Tokenizer(model), **marks
  )
  collate = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=_MASK_RATE)
  flat = torch.from_numpy(np.concatenate(inputs.documents).astype(np.int64))
  windows = flat[: len(flat) // length * length].view(-1, length)
  rows: Any = _Windows(windows, torch.zeros(length, dtype=torch.int64))
  loader: Any = torch.utils.data.DataLoader(
    rows,
    batch_size=inputs.rows,
    collate_fn=collate,
    num_workers=os.cpu_count() or 1,
    persistent_workers=True,
    drop_last=True,
  )

  def batches():
    while True:
      for batch in loader:
        yield {"encoder_input_tokens": batch["input_ids"].numpy()}

  return batches(), functools.partial(_whole_rows, length)


class _Windows:
  """Rows as transformers advises them: with their special tokens known in advance."""

  def __init__(self, windows: Any, special: Any):
    self._windows, self._special = windows, special

  def __len__(self) -> int:
    return len(self._windows)

  def __getitem__(self, i: int) -> dict[str, Any]:
    return {"input_ids": self._windows[i], "special_tokens_mask": self._special}


def grain_windows(inputs: Inputs) -> tuple[Iterator[Batch], Count]:
  """Grain's rows of documents that are joined and cut."""
  import grain

  length = 1024
  documents = grain.MapDataset.source([{"targets": tokens} for tokens in inputs.documents])
  rows = grain.experimental.ConcatThenSplitIterDataset(
    documents.repeat().to_iter_dataset(), length_struct={"targets": length}
  )
  return _grain_batches(rows, inputs.rows), functools.partial(_whole_rows, length)


def grain_pairs(packing: str, inputs: Inputs) -> tuple[Iterator[Batch], Count]:
  """Grain's packing of pairs; as many rows are open at once as a batch has."""
  import grain

  pack = getattr(grain.experimental, f"{packing}PackIterDataset")
  rows = pack(
    grain.MapDataset.source(inputs.pairs).repeat().to_iter_dataset(),
    length_struct=dict(inputs.pair_lengths),
    num_packing_bins=inputs.rows,
  )
  return _grain_batches(rows, inputs.rows), filled


PEERS = (
  Peer("span corruption, t5.data through SeqIO, t5", ("t5",), t5_span_corruption),
  Peer("masked LM, transformers' collator", ("transformers", "torch"), transformers_masked_lm),
  Peer("causal LM, ConcatThenSplit of grain", ("grain",), grain_windows),
  Peer("short pairs, packing of seqio", ("seqio",), seqio_pairs),
  Peer(
    "short pairs, FirstFitPack of grain", ("grain",), functools.partial(grain_pairs, "FirstFit")
  ),
  Peer("short pairs, BestFitPack of grain", ("grain",), functools.partial(grain_pairs, "BestFit")),
)


def _grain_batches(rows: Any, size: int) -> Iterator[Batch]:
  names = {"inputs": "encoder_input_tokens", "targets": "decoder_target_tokens"}
  for batch in rows.batch(size, drop_remainder=True):
    yield {names.get(name, name): value for name, value in batch.items()}


def _arrays(rows: tf.data.Dataset, size: int) -> Iterator[Batch]:
  return rows.batch(size, drop_remainder=True).prefetch(tf.data.AUTOTUNE).as_numpy_iterator()


def _whole_rows(raw: int, batch: Batch) -> int:
  """Returns the raw tokens of a batch whose rows are made of `raw` tokens each."""
  return raw * len(next(iter(batch.values())))
