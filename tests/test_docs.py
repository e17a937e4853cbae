"""Commands, flags, gin files and outputs in README.md, CONTRIBUTING.md and docs/ are real."""

import base64
import doctest
import email
import email.policy
import re
import shlex
import sys
from pathlib import Path

import pytest

from launch.configuration import gin_files, gin_text, reader
from tests import shipped

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))  # As Sphinx has it.
import command_reference  # noqa: E402
import docstring_blocks  # noqa: E402
import gin_reference  # noqa: E402

# Pages that the site's extensions write, from the code.
MADE = {"commands.md", "gin_macros.md", "gin_parameters.md"}
PAGES = sorted(x for x in DOCS.rglob("*.md") if x.name not in MADE and "_build" not in x.parts)
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
# Gin files that the reader or a command writes.
WRITTEN = re.compile(r"my_\w+\.gin|config\.gin|imported/\w+\.gin|deshuffling\.gin")


def name(path):
  return path.relative_to(ROOT).as_posix()


def blocks(path, language):
  return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def command_lines(path):
  """Yields [command, arguments ...] of every `python -m launch.COMMAND` of a document."""
  text = re.sub(r"\\\n\s*", "", path.read_text())
  for found in re.finditer(r"python -m (?:t5x_style\.)?launch\.(\w+)([^\n`|]*)", text):
    rest = re.split(r"\s+#|\s{2,}\(", found.group(2))[0]
    try:
      words = shlex.split(rest)
    except ValueError:  # A sentence with an apostrophe.
      words = rest.split()
    yield [found.group(1), *words]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_commands_and_their_flags_exist(path):
  wrong = []
  for command, *words in command_lines(path):
    if command not in command_reference.commands():
      wrong.append(f"launch.{command}")
      continue
    known = command_reference.flags_of(command)
    given = [x.partition("=")[0] for x in words if x.startswith("--") and x != "--"]
    if "--" in words:  # Apache Beam's flags follow.
      given = [x.partition("=")[0] for x in words[: words.index("--")] if x.startswith("--")]
    flags = [x for x in given if not x.startswith("--gin.")]
    wrong += [f"launch.{command} {x}" for x in flags if x not in {*known, "--help", "--traceback"}]
  assert wrong == []


def known_names(files):
  """Returns the macros and parameters that gin files know."""
  read = gin_files.GinFiles()
  for file in files:
    read.read(file)
  names = {b.selector if not b.argument else f"{b.selector}.{b.argument}" for b in read.bindings}
  return names | {m.name for b in read.bindings for m in gin_text.find(b.value, gin_text.Macro)}


EVERY_NAME = gin_reference.macros() + [
  f"{target}.{parameter}"
  for target, parameters in gin_reference.parameters().items()
  for parameter in parameters[1]
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_gin_names_on_command_lines_are_known_to_their_files(path):
  wrong = []
  for _, *words in command_lines(path):
    files = [x.partition("=")[2].rstrip(".,:;)") for x in words if x.startswith("--gin_file=")]
    own = [x for x in files if WRITTEN.search(x) or not x.endswith(".gin") or "/tmp" in x]
    known = EVERY_NAME if own or not files else known_names(files)
    for word in words:
      found = re.match(r"--gin\.([\w.]+)=", word)
      if found and not any(f".{x}".endswith(f".{found.group(1)}") for x in known):
        wrong.append(f"{found.group(1)} with {files}")
  assert wrong == []


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_gin_files_of_the_pages_can_be_read(path, tmp_path, monkeypatch):
  """As written: names, values and what they include are checked."""
  monkeypatch.chdir(tmp_path)
  for number, text in enumerate(blocks(path, "gin")):
    (tmp_path / f"{number}.gin").write_text(text)
    reader.read([f"{number}.gin"])


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_python_of_the_pages_can_be_read(path):
  for text in blocks(path, "python"):
    if ">>>" not in text:
      compile(text, path.name, "exec")


@pytest.mark.parametrize(
  ("headers", "body", "kept"),
  [
    ("", b"Yes.\n> May we?\n\n-- \nAda", "Yes."),
    ("", b"-- \nAda\nLondon\n", ""),
    ("", b">From here on\n", "From here on"),
    (
      "; charset=utf-8\nContent-Transfer-Encoding: base64",
      base64.b64encode("Café.\r\n-- \r\nAda\r\n".encode()),
      "Café.",
    ),
    ("; charset=idna", b"An encoding. Of names.\n", "An encoding. Of names."),
    ("; charset=unknown", b"Text.\n", "Text."),
  ],
)
def test_the_program_for_mailing_lists_keeps_what_the_sender_wrote(headers, body, kept):
  page = DOCS / "tutorials/text_that_people_have.md"
  (code,) = (block for block in blocks(page, "python") if "def own_text" in block)
  names = {}
  exec(code.partition("output, *files")[0], names)
  head = f"Content-Type: text/plain{headers}\n\n".encode()
  message = email.message_from_bytes(head + body, policy=email.policy.default)
  assert names["own_text"](message) == kept


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_no_line_begins_with_a_comment_of_myst(path):
  """A line that begins with % is not shown."""
  assert not re.search(r"^\s*%", path.read_text(), re.MULTILINE)


def examples(path):
  """Returns the doctests of a page: prompts, and what Python prints."""
  text = "\n".join(x for x in blocks(path, "python") if ">>>" in x)
  return doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)


@pytest.mark.slow  # TensorFlow
@pytest.mark.parametrize("path", [x for x in PAGES if ">>>" in x.read_text()], ids=name)
def test_what_the_pages_print_is_what_python_prints(path):
  printed = []
  runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
  runner.run(examples(path), out=printed.append)
  assert runner.summarize(verbose=False).attempted > 0
  assert printed == [], "".join(printed)


def test_readme_has_every_objective_and_the_architectures_that_it_fits():
  """Those that the first lines of the gin files name; tests/test_gin_files.py trains them."""
  short = {"encoder_decoder": "ED", "decoder_only": "D", "encoder_only": "E"}
  table = (ROOT / "README.md").read_text().partition("| need | objective | for |")[2]
  rows = [x.split("|")[2:4] for x in table.partition("\n\n")[0].splitlines()[2:]]
  shown = {}
  for objectives, architectures in rows:
    names = re.findall(r"`(\w+)`", objectives)
    groups = architectures.strip().split("; ")  # one for each objective, or one for all of them
    for name, group in zip(names, groups if len(groups) > 1 else groups * len(names), strict=True):
      shown[name] = set(group.split(", "))
  files = (ROOT / "gin_configs/objectives").glob("*.gin")
  first_lines = {x.stem: x.read_text().splitlines()[0] for x in files}
  stated = {name: {short[a] for a in short if a in line} for name, line in first_lines.items()}
  assert shown == stated


def test_the_gin_reference_knows_defaults_units_and_readers():
  text = gin_reference.macro_entry("TRAIN_STEPS")
  assert "`10000`, in `gin_configs/runs/pretrain.gin`" in text
  assert "`quickstart.gin`: `1600`" in text
  assert "**Type:** a whole number above 0" in text
  assert "`train_config.TrainConfig.train_steps` in `t5x_style/training/train_config.py`" in text
  assert "`6e+12`, in `gin_configs/compare.gin`" in gin_reference.macro_entry("AMOUNT")
  # What no file sets, and a macro that is read through another one.
  assert "**Default:** none" in gin_reference.macro_entry("TRAINED_MODEL_DIR")
  assert "initial_checkpoint_path" in gin_reference.macro_entry("TRAINED_MODEL_DIR")
  assert "`0.15`" in gin_reference.pages()["gin_parameters.md"]


def test_every_setting_of_the_gin_reference_says_what_it_does():
  silent = [
    macro
    for macro in gin_reference.macros()
    if "**What the code says of it:**" not in (text := gin_reference.macro_entry(macro))
    and text.split("\n")[2].startswith("- ")
  ]
  assert silent == []


def test_every_parameter_of_the_gin_reference_says_what_it_does():
  text = gin_reference.pages()["gin_parameters.md"]
  entries = re.findall(r"^`(\w+)`\n: (.*)\n\n(  \S)?", text, re.MULTILINE)
  assert len(entries) > 200
  assert [entry for entry in entries if not entry[2]] == []


def test_as_in_another_class_becomes_what_that_one_says():
  (jsonl,) = [x for x, _ in gin_reference.parameters().values() if x.path == "Jsonl"]
  text = gin_reference.said_of(jsonl, "validation_fraction")
  assert text.startswith("without validation_pattern, the share of the files or lines to hold out")
  assert text.endswith("; the hash is of a document's text.")


def test_the_page_about_python_has_what_the_package_ships():
  text = (DOCS / "reference/python.md").read_text()
  ours = [f"{one.__module__}.{one.__name__}" for one in shipped.objectives()]
  assert [one for one in ours if one not in text] == [], "add them to docs/reference/python.md"
  for module, names in (("optimizers", shipped.OPTIMIZERS), ("schedules", shipped.SCHEDULES)):
    (listed,) = re.findall(rf"training\.{module}\n   :members: (.*)", text)
    assert sorted(listed.split(", ")) == names, "the list in docs/reference/python.md"


def test_indented_examples_of_docstrings_are_literal_blocks():
  lines = ["Text with *.", "", "    a  b", "", "Args:", "  x: one", "    two"]
  assert docstring_blocks.as_blocks(lines) == [
    *("Text with \\*.", "", "", "::", "", "    a  b"),
    *("", "Args:", "  x: one", "    two"),
  ]
