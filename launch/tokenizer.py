"""Trains a vocabulary: python -m launch.tokenizer --input='/my/texts/*.txt' --output=my.model"""

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from t5x_style.shipped_vocabulary import DEFAULT_EXTRA_IDS

from .configuration import flags, reader
from .process import command, environment, errors, whole_files

EXAMPLES = """\
python -m launch.tokenizer                              (on Python's standard library)
python -m launch.tokenizer --input='/my/texts/*.txt' --vocab_size=16384 --output=my.model
python -m launch.tokenizer --gin_file=my_run.gin        (on the CORPUS of a run)
python -m launch.tokenizer --task=my_task --module=my_package.tasks"""

# Memory: of TensorFlow, which reads the text, and of training as a multiple of the text's size. Of
# 1 GB, samples of 20 and 100 MB took 1.4 and 3.5 GB at most (resource.getrusage).
_GIGABYTES, _MEMORY_OF_TEXT = 1.0, 27

# texts(split, most_bytes): the texts of each corpus or task, each of about most_bytes; None: all.
Texts = Callable[[str, int | None], list[Iterator[str]]]


def main(argv: Sequence[str]) -> None:
  values = flags.parse(
    argv,
    about="Trains a SentencePiece vocabulary.",
    examples=EXAMPLES,
    define=_define,
    runs_model=False,
  )
  environment.prepare()
  with errors.as_configuration_errors():
    _check_new(values.output)
    with environment.quiet_imports():
      from t5x_style.data.tokenizers import vocabularies, vocabulary_training

    name, splits, texts = _texts(values)
    extra_ids = _extra_ids(values)
    _print_plan(name, values)
    start = time.monotonic()
    samples = _samples(texts("train", None), values.max_megabytes * 10**6)
    content = vocabulary_training.train(_parts(samples), values.vocab_size)
    seconds = time.monotonic() - start
    _write(values.output, content)
    print("Trained. Measuring how well it fits the text.", flush=True)
    vocabulary = vocabularies.sentencepiece(os.path.abspath(values.output), extra_ids)
    fits = {
      split: vocabulary_training.measure(
        vocabulary, itertools.chain(*texts(split, values.max_megabytes * 10**6))
      )
      for split in ("train", "validation")
      if split in splits
    }
  _print_fits(fits)
  print(
    f"\n{values.output}: {values.vocab_size:,} pieces, {len(content):,} bytes, {seconds:.0f} s. "
    f"Use it: --gin.VOCABULARY_FILE=\"'{values.output}'\" "
    f"--gin.VOCAB_SIZE={vocabulary.vocab_size}"
  )


def _check_new(output: str) -> None:
  if os.path.exists(output):
    raise errors.ConfigurationError(
      f"--output={output} exists, and a model may depend on it; choose another name or remove it."
    )
  folder = os.path.dirname(os.path.abspath(output))
  try:  # Now, not after the training.
    os.makedirs(folder, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
  except OSError as error:
    raise errors.ConfigurationError(
      f"--output={output} cannot be written ({error.strerror}); choose another folder."
    ) from error


def _print_plan(name: str, values: Any) -> None:
  """Prints what is trained on, and the memory that it takes at most."""
  most = values.max_megabytes
  gigabytes = _GIGABYTES + _MEMORY_OF_TEXT * most / 1000
  print(
    f"Training {values.vocab_size:,} pieces on {name}: on all of its text, or on a random sample "
    f"of {most:,} MB if it has more (--max_megabytes), with at most about {gigabytes:.1f} GB of "
    "memory.",
    flush=True,
  )


def _samples(streams: Sequence[Iterator[str]], most_bytes: int) -> list[Any]:
  """Returns a sample of each stream of texts; says what was read."""
  from t5x_style.data.tokenizers import vocabulary_training

  samples = [vocabulary_training.sample(s, most_bytes // max(1, len(streams))) for s in streams]
  kept, read = (sum(getattr(s, name) for s in samples) for name in ("kept_bytes", "read_bytes"))
  sampled = f" and sampled {kept / 1e6:,.1f} MB of them" if kept < read else ""
  print(
    f"Read {read / 1e6:,.1f} MB{sampled}. Training takes a minute or less for 10 MB, and a few for "
    "100 MB.",
    flush=True,
  )
  return samples


def _parts(samples: Sequence[Any]) -> Iterator[str]:
  return itertools.chain.from_iterable(sample.texts() for sample in samples)


def _print_fits(fits: Mapping[str, Any]) -> None:
  """Prints how well the vocabulary fits the text of each split."""
  print(f"\n{'':12}{'documents':>10}{'MB':>9}{'tokens':>13}{'bytes/token':>13}{'exact':>10}")
  for split, fit in fits.items():
    print(
      f"{split:12}{fit.documents:>10,}{fit.text_bytes / 1e6:>9,.1f}{fit.tokens:>13,}"
      f"{fit.bytes_per_token:>13.3f}{fit.exact:>10,}"
    )


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_multi_string(
    "input", [], "A pattern of text files, each a document. May be repeated.", flag_values=values
  )
  absl_flags.DEFINE_string(
    "task", None, "A SeqIO task or mixture whose text is used instead.", flag_values=values
  )
  absl_flags.DEFINE_string("module", None, "The module that registers --task.", flag_values=values)
  absl_flags.DEFINE_string("output", "vocabulary.model", "The file to write.", flag_values=values)
  absl_flags.DEFINE_integer(
    "vocab_size",
    8192,
    "Pieces, with padding, EOS, UNK, special tokens and bytes (268), without sentinels.",
    lower_bound=300,
    flag_values=values,
  )
  absl_flags.DEFINE_integer(
    "max_megabytes",
    100,
    "Train on this much text at most, a random sample of a larger one; it takes about 27 times as "
    "much memory.",
    lower_bound=1,
    flag_values=values,
  )


def _texts(values: Any) -> tuple[str, Sequence[str], Texts]:
  """Returns what to train on: its name, its splits and its texts."""
  given = [name for name in ("input", "task", "gin_file") if getattr(values, name)]
  if len(given) > 1:
    raise errors.ConfigurationError(
      f"--{' and --'.join(given)} name different texts; give one of them."
    )
  if values.module and not values.task:
    raise errors.ConfigurationError("--module registers the task that --task names; give --task.")
  if values.task:
    return _task(values.task, values.module)
  from t5x_style.data import corpora, text_samples

  corpus: Any = corpora.PythonStdlib()
  if values.gin_file:
    corpus = _corpus(flags.read_configuration(values))
  elif values.input:
    # A single file has no second document to hold out.
    several = len(_files_with_text(values.input)) > 1
    corpus = corpora.TextFiles(tuple(values.input), validation_fraction=0.05 if several else 0)
  source = corpus.source()

  def texts(split: str, most_bytes: int | None) -> list[Iterator[str]]:
    return [text_samples.of_source(source, split, most_bytes)]

  return corpus.name, tuple(source.splits), texts


def _files_with_text(patterns: Sequence[str]) -> list[str]:
  """Returns the files of --input that are not empty; each has to fit into the memory."""
  from t5x_style.data.corpora.reading import file_patterns, text_reading

  sizes = {file: file_patterns.size(file) for file in file_patterns.matching(patterns, "--input")}
  if not any(sizes.values()):
    raise errors.ConfigurationError(
      f"All files that --input matches are empty, e.g. {next(iter(sizes))}; give files with text."
    )
  largest = max(sizes, key=sizes.__getitem__)
  if sizes[largest] > text_reading.LARGEST_DOCUMENT:
    raise errors.ConfigurationError(
      f"--input makes a document of each file, and {largest} with {sizes[largest] / 2**30:.1f} GiB "
      "is too large for one. Cut it into files, or read a document a line: instead of --input give "
      f"--gin_file=data/text_files.gin --gin.CORPUS_DOCUMENTS=\"'line'\" "
      f"--gin.CORPUS_FILES=\"'{largest}'\"."
    )
  return [file for file, size in sizes.items() if size]


def _task(name: str, module: str | None) -> tuple[str, Sequence[str], Texts]:
  from t5x_style.data import tasks, text_samples

  parts = [task for task, _ in tasks.parts(tasks.lookup(name, module))]

  def texts(split: str, most_bytes: int | None) -> list[Iterator[str]]:
    share = None if most_bytes is None else most_bytes // len(parts)
    return [text_samples.of_task(task, split, share) for task in parts if split in task.splits]

  return name, sorted({split for task in parts for split in task.splits}), texts


def _corpus(settings: reader.Configuration) -> Any:
  reference = settings.macro("CORPUS")
  if not hasattr(reference, "target"):
    raise errors.ConfigurationError(
      "The gin files set no CORPUS; include one of gin_configs/data/ in them."
    )
  return settings.build(reference.target.object)


def _extra_ids(values: Any) -> int:
  """Returns the sentinels of the run whose gin files are given, else those that runs begin with."""
  from t5x_style.data.tokenizers import vocabularies

  if values.gin_file:
    settings = flags.read_configuration(values)
    vocabulary, extra_ids = settings.macro("VOCABULARY"), settings.macro("EXTRA_IDS")
    of_run = getattr(getattr(vocabulary, "target", None), "object", None)
    # Those of bytes and of other tokenizers say nothing about a SentencePiece vocabulary.
    if of_run is vocabularies.sentencepiece and isinstance(extra_ids, int):
      return extra_ids
  return DEFAULT_EXTRA_IDS


def _write(path: str, content: bytes) -> None:
  whole_files.write(Path(path), content)


if __name__ == "__main__":
  command.run(main)
