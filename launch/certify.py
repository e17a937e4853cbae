"""Shows that this package learns as it should: python -m launch.certify --text=tinyshakespeare.txt

Runs fixed recipes whose outcome is known (launch/certification/) and prints for each the published
figure, this package's and the verdict. certificate.json in the same folder has the same, with
details. Started again, it skips what is finished and resumes what was interrupted.
"""

import contextlib
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from .certification import catalogue
from .configuration import actions, flags
from .process import command, environment, errors, exit_codes, whole_files

EXAMPLES = """\
python -m launch.certify --text=tinyshakespeare.txt
python -m launch.certify twin_t5 nanogpt_cpu --text=tinyshakespeare.txt
python -m launch.certify twin_bert
python -m launch.certify twin_bert --to=/tmp/wrong --gin.PEAK_LEARNING_RATE=0.002    (must fail)"""

_ABOUT = """\
Shows that this package learns as papers and PyTorch say it should. Recipes, by default all that can
run here:
{}

Exit codes: 0; 1 if a recipe failed; others are errors."""


def main(argv: Sequence[str]) -> int:
  about = _ABOUT.format(actions.listed(catalogue.ABOUT))
  values, names = flags.parse_own(argv, about=about, examples=EXAMPLES, define=_define)
  for name in names:
    if name not in catalogue.ABOUT:
      raise errors.ConfigurationError(
        f"There is no recipe {name!r}.{errors.did_you_mean(name, catalogue.ABOUT)} There are: "
        f"{', '.join(catalogue.ABOUT)}."
      )
  if "://" in values.to:
    raise errors.ConfigurationError(
      f"--to={values.to} is no local folder, which a certificate needs; copy it to a bucket at the "
      "end."
    )
  environment.prepare()
  environment.share_memory()
  with errors.as_configuration_errors(), contextlib.ExitStack() as until_end:
    return _certify(values, names or list(catalogue.ABOUT), until_end)


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_string(
    "text",
    None,
    "A text file; tiny Shakespeare for the figures that were published for it. Without one, twin "
    "runs train on made-up text.",
    flag_values=values,
  )
  absl_flags.DEFINE_string(
    "to", "model_dirs/certificate", "The folder of everything that is written.", flag_values=values
  )
  absl_flags.DEFINE_multi_string(
    "gin_bindings",
    [],
    "A setting of every run, to see that a wrong one fails; --gin.NAME=VALUE is short for it.",
    flag_values=values,
  )


def _certify(values: Any, names: Sequence[str], until_end: contextlib.ExitStack) -> int:
  with environment.quiet_imports():
    import jax

    from t5x_style.checkpoints.lease import Lease

    from .certification import certificate, journal, recipes, runs, texts, torch_twin
    from .certification.recipe import Context

  folder = Path(values.to).expanduser()
  folder.mkdir(parents=True, exist_ok=True)
  until_end.enter_context(Lease(folder, command.end_at_once))
  text = texts.prepare(values.text, folder / "text")
  settings = [f" --gin_bindings={flags.quoted(binding)}" for binding in values.gin_bindings]
  line = f"python -m {environment.PACKAGE}.certify {{}}{text.argument}{''.join(settings)}"
  say = lambda what: print(what, flush=True)
  context = Context(folder, text, values.gin_bindings, line, say)
  packages = {"jax": jax.__version__, **torch_twin.versions(), "python": platform.python_version()}
  shown = ", ".join(f"{name} {version}" for name, version in packages.items())
  say(f"Certificate of learning: {text.name}, {jax.devices()[0].device_kind}, {shown}")
  lines: list[certificate.Line] = []
  known = journal.finished_before(recipes.RECIPES.values(), context)
  try:
    for line_found in journal.run([recipes.RECIPES[name] for name in names], context):
      lines.append(line_found)
      known[line_found.name] = line_found
      found = {
        "packages": packages,
        "device": jax.devices()[0].device_kind,
        "text": text.name,
        "text_sha256": text.sha256,
        "settings": values.gin_bindings,
        "recipes": [known[name].as_json() for name in catalogue.ABOUT if name in known],
      }
      whole_files.write_json(folder / "certificate.json", found)
  except runs.StoppedError as stopped:
    say("Stopped, and saved: the same command resumes.")
    return exit_codes.of_stopped_run(stopped.signal_name)
  say(f"\n{certificate.table(lines)}\n\n{folder / 'certificate.json'}")
  return int(any(each.verdict == "failed" for each in lines))


if __name__ == "__main__":
  environment.take_large_pages()
  command.run(main)
