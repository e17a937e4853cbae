"""The command line: values of flags, the help page, error messages."""

import os
import shlex

import pytest

from launch.configuration import flags
from launch.process.errors import ConfigurationError
from t5x_style.data import corpora


def parse(*arguments, **kwargs):
  return flags.parse(["train", *arguments], about="Trains.", examples="python -m x", **kwargs)


def error(*arguments):
  with pytest.raises(ConfigurationError) as caught:
    parse(*arguments)
  return str(caught.value)


def test_gin_flags_keep_their_order_and_their_quotes():
  values = parse(
    "--gin_file=a.gin",
    "--gin.TRAIN_STEPS=50",
    "--gin_file=b.gin",
    "--gin_bindings=C = [1, 2]",
    "--gin.MODEL_DIR='/tmp/x=y'",
    "--gin.train/train_config.TrainConfig.seed=1",
    "--gin_search_paths=p,q",
  )
  assert values.gin_file == ["a.gin", "b.gin"]
  assert values.gin_bindings == [
    "TRAIN_STEPS = 50",
    "C = [1, 2]",
    "MODEL_DIR = '/tmp/x=y'",
    "train/train_config.TrainConfig.seed = 1",
  ]
  assert values.gin_search_paths == ["p", "q"]


def test_defaults():
  values = parse()
  assert (values.gin_file, values.gin_bindings, values.gin_search_paths) == ([], [], [])
  assert (values.dry_run, values.traceback, values.tfds_data_dir) == (False, False, None)
  assert values.coordinator_address is values.process_count is values.process_index is None


def test_a_second_command_line_starts_without_the_first():
  assert parse("--gin_file=a.gin", "--dry_run").dry_run
  assert parse("--gin_file=b.gin").gin_file == ["b.gin"]


def test_a_command_adds_its_own_flags():
  from absl import flags as absl_flags

  def define(values):
    absl_flags.DEFINE_integer("vocab_size", 8192, "Pieces.", flag_values=values)

  assert parse("--vocab_size=100", define=define).vocab_size == 100
  assert "--vocab_size" in error("--vocab_size=100")


def test_the_folder_of_tfds_reaches_gin_and_the_environment(monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", "/elsewhere")
  files = ["--gin_file=quickstart.gin", "--gin_file=data/tfds.gin", "--gin.TFDS_NAME='pg19'"]
  settings = flags.read_configuration(parse(*files, "--tfds_data_dir=/data"))
  assert settings.build(corpora.Tfds).data_dir == "/data"
  assert os.environ["TFDS_DATA_DIR"] == "/data"


def test_help_is_one_screen_with_examples(capsys):
  with pytest.raises(SystemExit) as caught:
    parse("--help")
  assert caught.value.code == 0
  page = capsys.readouterr().out
  assert page.startswith("Trains.\n\nExamples:\n  python -m x\n\nFlags:\n  --gin_file ")
  assert "--gin.NAME=VALUE" in page
  assert len(page.splitlines()) < 40
  assert max(map(len, page.splitlines())) <= 100
  assert "repeat this option" not in page


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--gin_fil=x"], "There is no flag --gin_fil. Did you mean '--gin_file'"),
    (["--dryrun"], "There is no flag --dryrun. Did you mean '--dry_run'? --help lists them."),
    (["--xyzzy"], "There is no flag --xyzzy. --help lists them."),
    (["quick.gin"], "'quick.gin' belongs to no flag. Did you mean --gin_file=quick.gin?"),
    (["--gin.STEPS", "3"], "--gin.STEPS sets nothing; write --gin.STEPS=VALUE in one word."),
    (["--gin.STEPS="], "--gin.STEPS= sets nothing; write --gin.STEPS=VALUE in one word."),
    (["--process_count=two"], "--process_count=two should be a positive integer."),
    (["--process_count=1: 2"], "--process_count=1: 2 should be a positive integer."),
    (["--process_count=0"], "--process_count=0 should be a positive integer."),
    (["--dry_run=perhaps"], "--dry_run=perhaps should be true or false."),
    (["--gin_file"], "Missing value for flag --gin_file."),
    (["--tfds_data_dir="], "--tfds_data_dir is empty"),
  ],
)
def test_errors(arguments, message):
  assert message in error(*arguments)


@pytest.mark.parametrize(
  ("argument", "typed"),
  [
    ("--dry_run", "--dry_run"),
    ("--gin.TRAIN_STEPS=5", "--gin.TRAIN_STEPS=5"),
    ("--gin.MODEL_DIR='/tmp/a b'", "--gin.MODEL_DIR=\"'/tmp/a b'\""),
    ("--gin_file=my run.gin", "'--gin_file=my run.gin'"),
    ("--gin.X='$HOME'", None),
  ],
)
def test_an_argument_is_shown_as_a_shell_reads_it(argument, typed):
  assert typed is None or flags.quoted(argument) == typed
  assert shlex.split(flags.quoted(argument)) == [argument]


@pytest.mark.parametrize("columns", [60, 100, 200])
def test_the_help_page_fits_the_terminal(monkeypatch, capsys, columns):
  monkeypatch.setenv("COLUMNS", str(columns))
  with pytest.raises(SystemExit):
    flags.parse(["x", "--help"], about="It does something. " * 9, examples="x --gin_file=a.gin")
  shown = capsys.readouterr().out.splitlines()
  assert max(map(len, shown)) <= min(columns, 100) - 2
  assert "--coordinator_address" in " ".join(shown)


def test_the_help_page_wraps_what_a_name_means_below_its_words(monkeypatch, capsys):
  monkeypatch.setenv("COLUMNS", "60")
  about = "Actions:\n  create   queues the slices; they are created when there is room\n"
  with pytest.raises(SystemExit):
    flags.parse(["x", "--help"], about=about, examples="x")
  lines = capsys.readouterr().out.splitlines()
  start = lines.index("  create   queues the slices; they are created when there")
  assert lines[start + 1] == "           is room"
