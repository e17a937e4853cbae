"""Writes a page about runs: python -m launch.report MODEL_DIR [MODEL_DIR ...]

One HTML page, complete in itself: loss, learning rate, gradient norm, throughput, waiting for data,
skipped steps, the parts of a mixture, evaluations, samples, settings and environment. Several runs
are in the same charts. A run may still be training; it is only read.
"""

import io
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags
from etils import epath

from t5x_style.errors import UserError, first_line

from .configuration import actions, flags
from .process import command, environment, errors, whole_files
from .process.errors import ConfigurationError

EXAMPLES = """\
python -m launch.report model_dirs/my_run
python -m launch.report model_dirs/one model_dirs/other --output=both.html
python -m launch.report model_dirs/* --also=png,csv,json"""

_ABOUT = """\
Writes an HTML page about one run, or about several runs in the same charts. A run may still be
training. The page needs no other file."""

_ALSO = ("png", "csv", "json")


def main(argv: Sequence[str]) -> None:
  values, folders = flags.parse_own(argv, about=_ABOUT, examples=EXAMPLES, define=_define)
  with errors.as_configuration_errors():
    _check(values, folders)
    actions.prepare_buckets(folders)

    from t5x_style.results import run_folder, run_page

    runs = _runs(folders)
    output = _output(values.output, runs)
    typed = run_page.default_command(f"python -m {environment.PACKAGE}.report", runs)
    page, sections = run_page.page(runs, time.time(), typed)
    written = [_write(output, page.html())]
    named = list(zip(run_folder.short_names(runs), runs, strict=True))
    written += _write_also(values.also, output, named, sections)
  print("\n".join(map(str, written)))


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_string(
    "output",
    None,
    "The page. By default report.html, in MODEL_DIR of a single run, here of several.",
    flag_values=values,
  )
  absl_flags.DEFINE_list(
    "also",
    [],
    "png (every chart, in a folder beside the page), csv, json (all records): any of these, "
    "separated by commas.",
    flag_values=values,
  )


def _check(values: Any, folders: Sequence[str]) -> None:
  """Raises ConfigurationError if the command line cannot be meant."""
  if not folders:
    raise ConfigurationError("No run is given; name its MODEL_DIR.")
  known = [os.path.normpath(folder) for folder in folders]
  if doubled := next((x for x in known if known.count(x) > 1), None):
    raise ConfigurationError(f"{doubled} is given twice.")
  if wrong := [name for name in values.also if name not in _ALSO]:
    raise ConfigurationError(f"--also={wrong[0]} is none of {', '.join(_ALSO)}.")
  if values.output is not None and not values.output.endswith((".html", ".htm")):
    raise ConfigurationError(
      f"--output={values.output!r} is the name of a page; write one that ends with .html."
    )


def _runs(folders: Sequence[str]) -> list[Any]:
  """Reads the runs; of several folders, such as those of model_dirs/*, it skips what is no run.

  Raises:
    UserError: no folder is a run that can be read.
  """
  from t5x_style.results import run_folder

  runs, wrong = [], []
  for folder in folders:
    try:
      runs.append(run_folder.read(folder))
    except UserError as error:
      wrong.append(error)
  if not runs:
    raise wrong[0]
  for reason in wrong:
    print(f"left out: {reason}", file=sys.stderr)
  return runs


def _output(path: str | None, runs: Sequence[Any]) -> epath.Path:
  if path is not None:
    return epath.Path(path).expanduser()
  return runs[0].folder / "report.html" if len(runs) == 1 else epath.Path("report.html")


def _write_also(
  also: Sequence[str], output: epath.Path, named: Sequence[Any], sections: Sequence[Any]
) -> list[epath.Path]:
  """Writes what --also requests beside the page; returns what it wrote."""
  from t5x_style.results import tables

  stem = output.name.rpartition(".")[0]
  written = []
  for name, text in (("csv", tables.as_csv), ("json", tables.as_json)):
    if name in also:
      written.append(_write(output.parent / f"{stem}.{name}", text(named)))
  if "png" in also:
    folder = output.parent / f"{stem}-png"
    for section in sections:
      for key, chart, _ in section.charts:
        picture = io.BytesIO()
        chart.png(picture)
        _write(folder / f"{key.replace('/', '-')}.png", picture.getvalue())
    written.append(folder)
  return written


def _write(path: epath.Path, content: str | bytes) -> epath.Path:
  """Writes a file as a whole: who opens it meanwhile sees the one before.

  Raises:
    UserError: it cannot be written.
  """
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole_files.write(path, content)
  except OSError as error:
    raise UserError(
      f"{path} cannot be written ({first_line(error)}); write --output=/another/place/report.html."
    ) from error
  return path


if __name__ == "__main__":
  command.run(main)
