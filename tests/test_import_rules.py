"""The rules about imports, folders, files and words. Each test lists every offender of its rule."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.same_behaviour import COMMANDS

ROOT = Path(__file__).parents[1]
# From the top down: a file imports files of its own room and of rooms in lower layers.
LAYERS = (
  ("launch",),
  ("interop",),
  ("checkpoints", "reporting", "planning"),
  ("training", "inference"),
  ("models", "losses"),
  ("partitioning",),
)
LAYER = {room: depth for depth, layer in enumerate(LAYERS) for room in layer}
CORE = tuple(room for layer in LAYERS[1:] for room in layer)  # runs without the packages of data
ROOMS = (*LAYER, "data")  # data stands aside: it imports no other room, and only launch imports it
# Files that every room may import.
SHARED = (
  "architectures",
  "errors",
  "hardware",
  "setting_types",
  "shipped_vocabulary",
  "soft_cap",
  "span_lengths",
)
DATA_AND_GIN = {"tensorflow", "tensorflow_text", "tensorflow_datasets", "seqio", "gin", "clu"}
TERMINAL_AND_FLAGS = {"rich", "tensorboardX", "absl"}


@functools.cache
def modules() -> Mapping[str, Path]:
  """{dotted name: file} of everything in t5x_style/ and launch/."""
  files = sorted(path for top in ("t5x_style", "launch") for path in (ROOT / top).rglob("*.py"))
  return {
    ".".join(relative(path).with_suffix("").parts).removesuffix(".__init__"): path for path in files
  }


def relative(path: Path) -> Path:
  return path.relative_to(ROOT)


@functools.cache
def tree_of(path: Path) -> ast.Module:
  return ast.parse(path.read_text())


def room_of(module: str) -> str:
  """The room of a module: "models", "launch", or "errors" for t5x_style/errors.py."""
  parts = [part for part in module.split(".") if part != "t5x_style"]
  return parts[0] if parts else ""


def imported(path: Path) -> Iterator[str]:
  """Every module that a file imports, also inside functions and under TYPE_CHECKING."""
  package = relative(path).parent.parts
  for node in ast.walk(tree_of(path)):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
      module = ".".join(filter(None, (base, node.module)))
      submodules = [f"{module}.{alias.name}" for alias in node.names]
      yield from (name if name in modules() else module for name in submodules)


@functools.cache
def graph() -> Mapping[str, set[str]]:
  """{module: the modules of this repository that it imports}."""
  return {name: set(imported(path)) & set(modules()) - {name} for name, path in modules().items()}


def reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
  """The modules that are imported by `start`, directly or through others."""
  found: set[str] = set()
  waiting = list(edges[start])
  while waiting:
    module = waiting.pop()
    if module not in found:
      found.add(module)
      waiting += edges[module]
  return found


def circles(edges: Mapping[str, set[str]]) -> list[list[str]]:
  """Groups of modules that import each other, directly or through others."""
  reach = {module: reachable(module, edges) for module in edges}
  groups = {frozenset(b for b in reach[a] if a in reach[b]) for a in edges if a in reach[a]}
  return sorted(sorted(group) for group in groups)


def listed(offenders: Iterable[object]) -> str:
  return "\n" + "\n".join(sorted(map(str, offenders)))


def test_no_files_import_each_other():
  assert circles(graph()) == []


def test_a_circle_is_found_wherever_it_closes():
  edges = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e_2"}, "e_2": {"a", "e"}}
  assert circles(edges) == [["b", "c"], ["e", "e_2"]]


def test_imports_point_one_way():
  """launch -> interop -> checkpoints, reporting, planning -> ... -> partitioning; data aside."""

  def allowed(room: str, target: str) -> bool:
    if room == target or target in ("", *SHARED) or room == "launch":
      return True
    return room in LAYER and target in LAYER and LAYER[room] < LAYER[target]

  wrong = {
    f"{module} -> {target}"
    for module, targets in graph().items()
    for target in targets
    if not allowed(room_of(module), room_of(target))
  }
  assert not wrong, listed(wrong)


# Files of t5x_style/data/ itself that each of its folders imports; the other files are above them.
BELOW_DATA = {
  "tokenizers": set(),
  "corpora": {"map_options", "python_calls"},
  "objectives": {"converters", "noise", "skip_counts", "windows", "tokenizers"},
}


def test_folders_of_data_import_one_way():
  """preview, notebook -> loader -> pipeline, tasks -> objectives -> tokenizers; corpora aside."""
  wrong = []
  for module, targets in graph().items():
    for folder, allowed in BELOW_DATA.items():
      if module.startswith(f"t5x_style.data.{folder}."):
        inner = [x.split(".")[2] for x in targets if x.startswith("t5x_style.data.")]
        wrong += [f"{module} -> {x}" for x in inner if x not in {folder, *allowed}]
  assert not wrong, listed(wrong)


def test_every_folder_is_a_room():
  """A new room needs its place in the layers above."""
  found = {path.parent.name for path in (ROOT / "t5x_style").glob("*/*.py")}
  assert found | {"launch"} == set(ROOMS)


def test_the_core_names_no_tensorflow_seqio_or_gin():
  """Not even inside a function; gin is only in launch."""
  wrong = []
  for module, path in modules().items():
    forbidden = DATA_AND_GIN if room_of(module) in CORE else {"gin"}
    if room_of(module) != "launch":
      wrong += [f"{module} -> {x}" for x in imported(path) if x.split(".")[0] in forbidden]
  assert not wrong, listed(wrong)


def test_what_trains_names_no_terminal_writer_or_flag():
  """Rooms from training down are given what they report to; checkpoints print nothing either."""
  quiet = {room for layer in LAYERS[3:] for room in layer} | {"checkpoints"}
  wrong = [
    f"{module} -> {name}"
    for module, path in modules().items()
    if room_of(module) in quiet
    for name in imported(path)
    if name.split(".")[0] in TERMINAL_AND_FLAGS
  ]
  assert not wrong, listed(wrong)


def test_the_core_loads_no_tensorflow_seqio_or_gin():
  """In a new process: nor do the packages that it imports."""
  core = [module for module in modules() if room_of(module) in CORE]
  program = f"""
import importlib, sys
for module in {core!r}:
  importlib.import_module(module)
  found = {DATA_AND_GIN!r} & set(sys.modules)
  assert not found, f"{{module}} loads {{found}}"
"""
  run = subprocess.run(
    [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=200
  )
  assert run.returncode == 0, run.stderr[-500:]


def test_the_package_itself_is_a_docstring():
  (only,) = tree_of(ROOT / "t5x_style/__init__.py").body
  assert isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant)


def test_every_folder_of_python_says_what_it_holds():
  folders = {path.parent for path in modules().values()}
  files = [folder / "__init__.py" for folder in folders]
  wrong = [relative(x) for x in files if not x.exists() or not ast.get_docstring(tree_of(x))]
  assert not wrong, listed(wrong)


def test_files_of_launch_are_commands():
  """One file each, whose docstring says how it is started; all else is in folders."""
  commands = {x.stem: x for x in (ROOT / "launch").glob("*.py") if x.stem != "__init__"}
  assert set(commands) == set(COMMANDS)
  says = {name: ast.get_docstring(tree_of(path)) or "" for name, path in commands.items()}
  assert [name for name in says if f"python -m launch.{name} " not in says[name]] == []


def test_files_are_short_and_say_what_they_are():
  """At most 400 lines, and a docstring first."""
  files = [*modules().values(), *sorted((ROOT / "tests").rglob("*.py"))]
  wrong = [f"{relative(x)} is long" for x in files if len(x.read_text().splitlines()) > 400]
  silent = [x for x in files if x.read_text() and not ast.get_docstring(tree_of(x))]
  wrong += [f"{relative(x)} has no docstring" for x in silent]
  assert not wrong, listed(wrong)


# What goes wrong there is no mistake of a person: shapes that do not fit, a text of XLA's.
FAULTS = ("t5x_style.losses.", "t5x_style.planning.collectives")


def raised(path: Path) -> Iterator[str]:
  """The names of the exceptions that a file raises, outside the body of a try that handles them."""
  handled = {
    id(inner)
    for node in ast.walk(tree_of(path))
    if isinstance(node, ast.Try) and node.handlers
    for statement in node.body
    for inner in ast.walk(statement)
  }
  for node in ast.walk(tree_of(path)):
    if isinstance(node, ast.Raise) and id(node) not in handled:
      error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
      yield getattr(error, "id", "")


def test_mistakes_of_a_person_are_user_errors():
  """A command shows the message of a t5x_style.errors.UserError; others end in a traceback."""
  plain = {"ValueError", "FileNotFoundError", "ModuleNotFoundError", "PermissionError"}
  wrong = [
    f"{module} raises {sorted(plain & set(raised(path)))}"
    for module, path in modules().items()
    if room_of(module) in (*CORE, "data") and not module.startswith(FAULTS)
    if plain & set(raised(path))
  ]
  assert not wrong, listed(wrong)


# Tests of a whole subject, which no single file computes.
SUBJECTS = {
  "interop/huggingface/test_pipelines.py",
  "interop/huggingface/test_shipped_models.py",
  "interop/huggingface/test_training_step.py",
  "launch/configuration/test_every_setting.py",
  "launch/configuration/test_setting_errors.py",
  "launch/test_data_files.py",
  "launch/test_pods.py",
  "models/attention_kernels/test_for_tpus.py",
  "models/attention_kernels/test_in_models.py",
  "models/attention_kernels/test_soft_cap.py",
  "models/test_parameter_counts.py",
  "partitioning/test_equivalence.py",
  "training/test_distributed.py",
}


def test_tests_are_where_the_file_they_test_is():
  """tests/models/test_stack.py or tests/models/test_stack_sharing.py tests models/stack.py."""
  wrong = [place for place in SUBJECTS if not (ROOT / "tests" / place).exists()]
  for path in sorted((ROOT / "tests").glob("*/**/test_*.py")):
    place = path.relative_to(ROOT / "tests")
    if place.as_posix() in SUBJECTS:
      continue
    folder = (ROOT if place.parts[0] == "launch" else ROOT / "t5x_style") / place.parent
    known = {x.stem for x in folder.glob("*.py")} | {x.name for x in folder.glob("*/")}
    tested = path.stem.removeprefix("test_")
    if not any(f"{tested}_".startswith(f"{name}_") for name in (*known, folder.name)):
      wrong.append(str(place))
  assert not wrong, listed(wrong)


# Words that are not the field's, and what to write instead.
DIALECT = {
  r"(go|goes|going|went) on(?! (the|a|an|each|every)\b)": "resume, continue",
  r"mend(s|ed|ing)?": "fix, repair",
  r"(made|make|makes|computed) again": "recompute",
  r"anew": "again, new",
  r"whoever": "the caller, the user",
  r"of (ours|theirs)": "this package's, Hugging Face's",
  r"in want of": "without",
}


def test_the_words_are_the_fields():
  """Code, gin files and documents use the words that a reader searches for."""
  tops = (ROOT / top for top in ("t5x_style", "launch", "gin_configs", "tests"))
  files = [x for top in tops for x in top.rglob("*") if x.suffix in (".py", ".gin", ".md")]
  wrong = []
  for path in {*files, ROOT / "README.md", ROOT / "CONTRIBUTING.md"} - {Path(__file__)}:
    text = path.read_text().replace("_", " ")
    for words, better in DIALECT.items():
      for match in re.finditer(rf"\b{words}\b", text, re.IGNORECASE):
        number = text.count("\n", 0, match.start()) + 1
        wrong.append(f"{relative(path)}:{number}: {match.group()}; write: {better}")
  assert not wrong, listed(wrong)
