"""Makes a token cache of a run's corpus: python -m launch.cache --gin_file=my_run.gin --to=CACHE

The text is tokenised once, into files that a run reads by index, without TensorFlow. Shows or
checks a cache: python -m launch.cache CACHE
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from .configuration import flags, reader
from .process import command, environment, errors

EXAMPLES = """\
python -m launch.cache --gin_file=my_run.gin --to=caches/my_text
python -m launch.cache --gin_file=my_run.gin --to=caches/my_text --deduplicate --workers=16
python -m launch.cache --gin_file=my_run.gin --to=/shared/my_text -- --runner=FlinkRunner
python -m launch.cache caches/my_text                   (what is in it)
python -m launch.cache --check caches/my_text           (every byte is compared)"""

_LOAD = "t5x_style.data.loader.load"


def main(argv: Sequence[str]) -> None:
  argv, beam_flags = _split(argv)
  values, words = flags.parse_own(
    argv,
    about="Makes a token cache of the CORPUS of a run with its VOCABULARY, or shows one.",
    examples=EXAMPLES,
    define=_define,
  )
  environment.prepare()
  with errors.as_configuration_errors():
    _check_flags(values, words)
    if words:
      _show(Path(os.path.expanduser(words[0])), values.check)
    else:
      _make(values, beam_flags)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Returns the arguments before and after "--"."""
  arguments = list(argv)
  if "--" not in arguments:
    return arguments, []
  at = arguments.index("--")
  return arguments[:at], arguments[at + 1 :]


def _define(values: absl_flags.FlagValues) -> None:
  flags.define_data(values)
  absl_flags.DEFINE_string("to", None, "The folder of the new cache.", flag_values=values)
  absl_flags.DEFINE_bool(
    "deduplicate",
    False,
    "Of documents with the same text keep the first, and held-out ones only there.",
    flag_values=values,
  )
  absl_flags.DEFINE_integer(
    "shards",
    None,
    "Files of the train split; by default one for 256 MiB of tokens or 500,000 documents. There "
    "are more where one would have over 10,000,000 documents, whose order takes 3 GB of memory.",
    lower_bound=1,
    upper_bound=99_999,
    flag_values=values,
  )
  absl_flags.DEFINE_integer(
    "workers", None, "Processes; by default one for each core.", lower_bound=1, flag_values=values
  )
  absl_flags.DEFINE_bool(
    "check", False, "Compare every byte of a cache with its checksums.", flag_values=values
  )


def _check_flags(values: Any, words: Sequence[str]) -> None:
  if len(words) > 1:
    raise errors.ConfigurationError(f"Give one cache, not {len(words)}: {' '.join(words)}.")
  if words and (values.gin_file or values.to):
    hint = f" Did you mean --gin_file={words[0]}?" if words[0].endswith(".gin") else ""
    raise errors.ConfigurationError(
      f"{words[0]!r} would be shown, but --gin_file and --to make a cache.{hint}"
    )
  if not words and values.check:
    raise errors.ConfigurationError("Which cache? Write e.g. --check caches/my_text.")
  if not words and not values.to:
    raise errors.ConfigurationError(
      "Where to? Write --to=FOLDER to make a cache, or give the folder of one to show it."
    )


def _show(folder: Path, check: bool) -> None:
  from t5x_style import token_cache

  from .caching import show

  cache = token_cache.open(folder)
  if check:
    _check(cache)
  print("\n".join(map(environment.as_started, show.lines(folder, cache.manifest))))
  if check:
    print("Every file has the content that was written.")


def _check(cache: Any) -> None:
  """Compares every byte of an open cache with its checksums, and shows how far it is."""
  from t5x_style.token_cache import verification

  from .caching import progress

  total = sum(facts.size for facts in cache.manifest.every_file())
  done: list[int] = []
  with progress.shown("checked", total, 0) as shown:

    def checked(facts: Any) -> None:
      done.append(facts.size)
      shown.update(sum(done))

    verification.check_content(cache.folder, cache.manifest, checked)


def _make(values: Any, beam_flags: Sequence[str]) -> None:
  settings = flags.read_configuration(values)
  with environment.quiet_imports():
    from t5x_style.token_cache import manifest

    from .caching import make, request, show

    corpus, vocabulary = (_setting(settings, name) for name in ("corpus", "vocabulary"))
  folder = Path(os.path.expanduser(values.to)).absolute()
  workers = values.workers or os.cpu_count() or 1
  asked = request.of(
    corpus, vocabulary, folder, values.deduplicate, values.shards, workers, beam_flags
  )
  megabytes = sum(piece.size for piece in asked.plan.pieces) / 1e6
  complete = (folder / manifest.FILE).exists()
  if not complete:
    size = f" ({megabytes:,.0f} MB)" if megabytes >= 0.5 else ""  # Of some corpora it is not known.
    print(
      f"A token cache of {corpus.name}{size} is made in {folder}. After an interruption the same "
      "command resumes.",
      flush=True,
    )
  made = make.make(asked)
  print("\n".join(map(environment.as_started, show.lines(folder, made))))
  if complete:
    print("It was complete already; nothing was left to do.")


def _setting(settings: reader.Configuration, name: str) -> Any:
  """Returns the corpus or the vocabulary of a run, or of a gin file of gin_configs/data/ alone."""
  found = settings.argument(f"{_LOAD}.{name}")
  reference = settings.macro(name.upper())
  if found is None and hasattr(reference, "target"):
    return settings.build(reference.target.object)
  return found


if __name__ == "__main__":
  command.run(main)
