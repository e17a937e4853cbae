"""Measures what a model has learnt: python -m launch.eval loss MODEL_DIR

Each of ACTIONS is a module of launch/evaluation/ that has
  run(values, words): measures, prints what it found, and returns the exit code;
  FLAGS: the names of the flags that it takes;
  WORDS: what it takes beside flags, such as ("MODEL_DIR",); a last one that ends with "..." may be
    repeated.
The first line of its docstring describes it. Nothing here changes a run or its checkpoints.
"""

from collections.abc import Sequence

from absl import flags as absl_flags

from .configuration import actions, flags
from .process import command, distributed, environment, errors
from .process.errors import ConfigurationError

EXAMPLES = """\
python -m launch.eval loss model_dirs/my_run
python -m launch.eval loss model_dirs/my_run --all_steps --json
python -m launch.eval loss model_dirs/my_run --text=chapter.txt
python -m launch.eval loss model_dirs/my_run --gin_file=data/jsonl.gin --gin.CORPUS_FILES=x.jsonl
python -m launch.eval pairs model_dirs/my_run blimp/data/*.jsonl
python -m launch.eval pairs hf:FOLDER pairs.jsonl --json
python -m launch.eval tasks model_dirs/my_run --mixture_or_task=my_task --module=my_tasks
python -m launch.eval harness model_dirs/my_run lambada_openai arc_easy --num_fewshot=5"""

ACTIONS = ("loss", "pairs", "tasks", "harness")  # modules of launch/evaluation/

_ABOUT = """\
Measures what a model has learnt.

Actions:
{}

Exit codes: 0; 1 if a checkpoint could not be measured; 65 if lines could not be used; others are
errors."""


def main(argv: Sequence[str]) -> int | None:
  about = actions.descriptions("evaluation", ACTIONS)
  values, words = flags.parse_own(
    argv, about=_ABOUT.format(actions.listed(about)), examples=EXAMPLES, define=_define
  )
  action, words = actions.chosen(words, ACTIONS)
  environment.prepare()
  actions.prepare_buckets(words)
  module = actions.imported("evaluation", action, values)
  _check_words(action, module.WORDS, words)
  with errors.as_configuration_errors():
    distributed.connect(values)
    return module.run(values, words)


def _define(values: absl_flags.FlagValues) -> None:
  absl_flags.DEFINE_multi_string(
    "step",
    [],
    "Only this step, not the newest. May be repeated; --step=10,20 is short for two.",
    flag_values=values,
  )
  absl_flags.DEFINE_bool("all_steps", False, "Every checkpoint of the run.", flag_values=values)
  absl_flags.DEFINE_string(
    "text", None, "loss: measure on this file of text, not on the corpus.", flag_values=values
  )
  absl_flags.DEFINE_bool(
    "all_batches",
    False,
    "loss: the whole held-out text, not only EVAL_BATCHES of it.",
    flag_values=values,
  )
  absl_flags.DEFINE_string(
    "method",
    None,
    "pairs: how sentences are scored, such as pseudo_log_likelihood_in_words or enc_dec_prefix. By "
    "default the first method that fits the model.",
    flag_values=values,
  )
  _define_tasks(values)
  absl_flags.DEFINE_bool("json", False, "One JSON object, for programs.", flag_values=values)
  flags.define_data(values)
  flags.define_processes(values)


def _define_tasks(values: absl_flags.FlagValues) -> None:
  """Defines the flags of the actions that load a model without its gin file."""
  define_text, define_number = absl_flags.DEFINE_string, absl_flags.DEFINE_integer
  define_text("mixture_or_task", None, "tasks: the SeqIO task or mixture.", flag_values=values)
  define_text("module", None, "tasks: is imported first, to register it.", flag_values=values)
  define_text("split", "validation", "tasks: the split.", flag_values=values)
  define_number(
    "examples",
    None,
    "tasks, harness: the first ones of each task only.",
    lower_bound=1,
    flag_values=values,
  )
  define_text(
    "lengths",
    None,
    "tasks: cuts features: '{\"inputs\": 512}'; they are not cut by default.",
    flag_values=values,
  )
  define_number(
    "max_new_tokens",
    None,
    "tasks: to write at most; by default as many as the longest targets have.",
    lower_bound=1,
    flag_values=values,
  )
  define_number("batch_size", 16, "tasks: rows at once.", lower_bound=1, flag_values=values)
  define_text(
    "mesh",
    None,
    "pairs, tasks, harness: as MESH_SHAPE, '{\"data\": 2}'; one device by default.",
    flag_values=values,
  )
  define_number(
    "num_fewshot",
    None,
    "harness: solved examples in front of each.",
    lower_bound=0,
    flag_values=values,
  )
  define_text(
    "include_path", None, "harness: a folder with YAML files of your own tasks.", flag_values=values
  )
  define_text(
    "output", None, "tasks: a JSONL file for what the model wrote, or scored.", flag_values=values
  )


def _check_words(action: str, wanted: Sequence[str], words: Sequence[str]) -> None:
  """Raises ConfigurationError unless there is a word for each that the action takes."""
  more = bool(wanted) and wanted[-1].endswith("...")
  if len(words) == len(wanted) or (more and len(words) > len(wanted)):
    return
  what = f"{len(words)} were given" if words else "none was given"
  raise ConfigurationError(f"{action} takes {' '.join(wanted)}; {what}.")


if __name__ == "__main__":
  environment.take_large_pages()
  command.run(main)
