"""Uses a trained model: python -m launch.infer MODEL 'a text' continues, fills or embeds texts.

What a model can do follows from the objectives that it was trained with; see
t5x_style/trained/abilities.py. The parts of this command are in launch/inference/.
"""

import ast
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags as absl_flags

from t5x_style.interop.huggingface.path_prefix import PREFIX

from .configuration import flags
from .process import command, environment, errors
from .process.errors import ConfigurationError
from .process.exit_codes import ExitCode

EXAMPLES = """\
python -m launch.infer model_dirs/quickstart 'return self.[MASK] * self.height'
python -m launch.infer model_dirs/my_causal_lm 'import ' --max_new_tokens=20 --temperature=0.8
python -m launch.infer hf:bert-base-uncased 'Paris is the [MASK] of France.' --candidates=3
python -m launch.infer MODEL --input=texts.jsonl --output=results.jsonl --beams=4
python -m launch.infer MODEL --task=embed --input=lines.txt --output=vectors.jsonl"""

ABOUT = """\
Uses a trained model. MODEL is a MODEL_DIR, one of its checkpoints, or hf:FOLDER; texts follow it.

Tasks, by default what the model's objective taught it:
  continue  writes on after a text: decoders, prefix LM, masked diffusion
  fill      fills the holes of a text: [MASK] or <extra_id_0>, <extra_id_1> ... stand for them
  classify  tells which label a text has: encoders that were fine-tuned for it
  embed     turns a text into a vector

--input is a file of texts, one per line, or JSON objects {"text": "..."} if it ends in .jsonl;
{"prefix": "...", "suffix": "..."} is a text with one hole, and "mode": "[S]" sets a mode token.
--output gets one JSON object per line, in the same order, with the line's own fields. The same
command continues it after a kill. A line that cannot be used gets {"error": ...}, and the rest is
done; the exit code is then 65."""

TASKS = ("continue", "fill", "classify", "embed")
_CHOICES = ("temperature", "top_k", "top_p", "beams")
# The flags that each task takes, beside those of all tasks.
_OWN = {
  "continue": (*_CHOICES, "max_new_tokens", "mode", "unmasking_steps", "seed"),
  "fill": (*_CHOICES, "candidates", "max_new_tokens", "mode", "unmasking_steps", "seed"),
  "classify": (),
  "embed": ("pooling",),
}


def main(argv: Sequence[str]) -> int | None:
  values, words = flags.parse_own(argv, about=ABOUT, examples=EXAMPLES, define=_define)
  path, texts = _check_words(values, words)
  environment.prepare()
  with errors.as_configuration_errors():
    lines = None
    if values.input:
      from .inference import input_lines

      lines = input_lines.InputFile(values.input)
    with environment.quiet_imports():
      import t5x_style
      from t5x_style.trained import abilities
    trained = t5x_style.load(path, step=values.step, mesh_shape=_mesh(values.mesh))
    task = values.task or next(iter(abilities.abilities(trained)))
    runner = _runner(trained, task, values)
    if lines is None:
      return _run_texts(runner, texts, values)
    return _run_file(runner, trained, task, lines, values)


def _define(values: absl_flags.FlagValues) -> None:
  define_text, define_number = absl_flags.DEFINE_string, absl_flags.DEFINE_integer
  absl_flags.DEFINE_enum("task", None, TASKS, "What to do.", flag_values=values)
  define_text("input", None, "A file of texts, or of JSON objects.", flag_values=values)
  define_text("output", None, "A JSONL file for the results of --input.", flag_values=values)
  define_number("step", None, "The step to load; the newest one by default.", flag_values=values)
  define_text(
    "mesh",
    None,
    'As MESH_SHAPE: \'{"data": 2, "tensor": 4}\'; one device by default.',
    flag_values=values,
  )
  define_number("batch_size", 16, "Rows at once.", lower_bound=1, flag_values=values)
  define_number("seed", 0, "Of the draws.", lower_bound=0, flag_values=values)
  define_number("max_new_tokens", 64, "To write at most.", lower_bound=1, flag_values=values)
  absl_flags.DEFINE_float(
    "temperature", 0.0, "Above 0: tokens are drawn; 0: the likeliest is taken.", flag_values=values
  )
  define_number("top_k", 0, "Draw from the k likeliest tokens only.", flag_values=values)
  absl_flags.DEFINE_float(
    "top_p", 1.0, "Draw from the likeliest tokens of this probability only.", flag_values=values
  )
  define_number("beams", 1, "Above 1: beam search.", flag_values=values)
  define_number(
    "candidates",
    5,
    "fill: how many to show for a hole, by beam search if none is requested.",
    lower_bound=1,
    flag_values=values,
  )
  define_text("mode", None, "UL2: the mode token: [R], [S] or [X].", flag_values=values)
  define_number(
    "unmasking_steps",
    None,
    "Masked diffusion: steps; one per token by default.",
    lower_bound=1,
    flag_values=values,
  )
  define_text(
    "pooling",
    None,
    "embed: mean, first or last token; by the model if not given.",
    flag_values=values,
  )


def _check_words(values: Any, words: Sequence[str]) -> tuple[str, Sequence[str]]:
  """Returns the model and the texts of the command line."""
  if not words:
    raise ConfigurationError("No model is given: write a MODEL_DIR or hf:FOLDER before the texts.")
  path, *texts = words
  if values.output and not values.input:
    raise ConfigurationError("--output is for the lines of a file; give --input=FILE, too.")
  if bool(texts) == bool(values.input):
    raise ConfigurationError(
      "Texts are given and --input, too; give one of them."
      if texts
      else f"Nothing to do with {path}: write texts after it, or --input=FILE."
    )
  empty = [text for text in texts if not text.strip()]
  if empty:
    raise ConfigurationError(f"The text {empty[0]!r} is empty.")
  return path, texts


def _mesh(text: str | None) -> dict[str, int] | None:
  if text is None:
    return None
  try:
    shape = ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    shape = None
  if not isinstance(shape, dict) or not shape:
    raise ConfigurationError(f"""--mesh={text} is no shape; write --mesh='{{"data": 2}}'.""")
  return shape


def _runner(trained: Any, task: Any, values: Any) -> Any:
  """Returns the task with its settings, checked.

  Raises:
    UserError: the model does not do it, or a flag is not for it.
  """
  from t5x_style.trained.abilities import ability_for

  ability_for(trained, task)
  for name in sorted({name for own in _OWN.values() for name in own} - set(_OWN[task])):
    if getattr(values, name) != values[name].default:
      raise ConfigurationError(f"--{name} is not for --task={task}; leave it out.")
  if task == "classify":
    from t5x_style.trained.classifying import Classifying

    return Classifying(trained, values.batch_size)
  if task == "embed":
    from t5x_style.trained.embedding import Embedding

    return Embedding(trained, values.pooling, values.batch_size)
  from t5x_style.inference.choice import Choice

  chosen = {name: getattr(values, name) for name in _CHOICES}
  choice = None if chosen == {name: values[name].default for name in _CHOICES} else Choice(**chosen)
  settings = {
    "choice": choice,
    "max_new_tokens": values.max_new_tokens,
    "mode": values.mode,
    "steps": values.unmasking_steps,
    "batch_size": values.batch_size,
  }
  if task == "continue":
    from t5x_style.trained.generating import Continuing

    return Continuing(trained, **settings)
  from t5x_style.trained.filling import Filling

  return Filling(trained, candidates=values.candidates, **settings)


def _run_texts(runner: Any, texts: Sequence[str], values: Any) -> int:
  """Prints what comes of the texts of the command line."""
  from .inference import records

  rows = [runner.prompt(text) for text in texts]
  for text, result in zip(texts, runner.run(rows, values.seed, 0), strict=True):
    print(records.shown(text, result, values.candidates))
  return ExitCode.FINISHED


def _run_file(runner: Any, trained: Any, task: str, lines: Any, values: Any) -> int:
  """Does the lines of a file; returns the exit code."""
  from .inference import output_file, run_lines

  if not values.output:
    totals = run_lines.Totals()

    def write(found: run_lines.Records) -> None:
      sys.stdout.buffer.write(b"".join(map(output_file.encoded, found)))
      sys.stdout.buffer.flush()

    run_lines.run(runner, lines, write, totals, values.seed, values.batch_size)
  else:
    output = output_file.OutputFile(values.output, _identity(trained, task, lines, values))
    totals = run_lines.Totals(output.done, output.errors)
    if output.done:
      print(f"{values.output}: {output.done:,} of {lines.count:,} lines are done.", file=sys.stderr)
    try:
      with _ending_at_signals():
        run_lines.run(runner, lines, output.add, totals, values.seed, values.batch_size)
    finally:
      output.close()
  where = f", in {values.output}" if values.output else ""
  print(
    f"{totals.done:,} lines{where}, {totals.errors:,} of which could not be used.", file=sys.stderr
  )
  return ExitCode.BAD_LINES if totals.errors else ExitCode.FINISHED


@contextlib.contextmanager
def _ending_at_signals() -> Iterator[None]:
  """A context in which SIGTERM and SIGHUP end the process with the code that says: start again."""

  def end(number: int, _: Any) -> None:
    print(f"Stopped by {signal.Signals(number).name}; the same command continues.", file=sys.stderr)
    sys.exit(ExitCode.PREEMPTED)

  before = {}
  if threading.current_thread() is threading.main_thread() and not environment.is_plain():
    for number in (signal.SIGTERM, signal.SIGHUP):
      if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP.
        before[number] = signal.signal(number, end)
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _absolute(path: str) -> str:
  """Returns the path of a model as it is from every folder."""
  if "://" in path:
    return path
  prefix = PREFIX if path.startswith(PREFIX) else ""
  return prefix + os.path.abspath(os.path.expanduser(path.removeprefix(prefix)))


def _identity(trained: Any, task: str, lines: Any, values: Any) -> dict[str, Any]:
  """Returns what decides on the results, as JSON values."""
  return {
    "model": _absolute(trained.path),
    "step": trained.step,
    "input": lines.digest,
    "task": task,
    **{name: getattr(values, name) for name in _OWN[task]},
  }


if __name__ == "__main__":
  command.run(main)
