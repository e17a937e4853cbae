"""The rules of the house about imports and the size of files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = (
  "models",
  "losses",
  "partitioning",
  "training",
  "inference",
  "checkpoints",
  "reporting",
  "planning",
)
FORBIDDEN = {"tensorflow", "tensorflow_text", "tensorflow_datasets", "seqio", "gin", "clu"}
# What a room may import of the package, besides the errors and the kinds of numbers of them all:
# launch -> training -> the others, data stands aside.
DOORS = {
  "models": {"models", "partitioning"},
  "losses": {"losses", "partitioning"},
  "partitioning": {"partitioning"},
  "inference": {"inference", "models", "partitioning"},
  "training": {
    "training",
    "models",
    "losses",
    "partitioning",
    "inference",
    "checkpoints",
    "reporting",
  },
  "checkpoints": {"checkpoints", "models", "training"},
  "reporting": {"reporting", "models", "losses", "partitioning", "training"},
  "planning": {"planning", "models", "losses", "partitioning", "training"},
  "data": {"data"},
  "interop": {"interop", "models", "partitioning", "training", "checkpoints"},
}
FILES = sorted(
  path for folder in ("t5x_style", "launch", "tests") for path in (ROOT / folder).rglob("*.py")
)
ROOMS = {room: sorted((ROOT / "t5x_style" / room).glob("**/*.py")) for room in DOORS}


def imported(path):
  """Every module a file imports, wherever in the file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{path}: imports name the whole package"
      yield node.module
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_name(path):
  parts = path.relative_to(ROOT).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_the_core_loads_no_tensorflow_seqio_or_gin():
  """In a new process, for every module of the core."""
  modules = [module_name(path) for room in CORE for path in ROOMS[room]]
  program = f"""
import importlib, sys
for module in {modules!r}:
  importlib.import_module(module)
  found = {FORBIDDEN!r} & set(sys.modules)
  assert not found, f"{{module}} loads {{found}}"
"""
  done = subprocess.run(
    [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=200
  )
  assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("room", CORE)
def test_the_core_names_no_tensorflow_seqio_or_gin(room):
  """Not even inside a function."""
  assert ROOMS[room], f"t5x_style/{room} is empty"
  for path in ROOMS[room]:
    found = {name.split(".")[0] for name in imported(path)} & FORBIDDEN
    assert not found, f"{path.relative_to(ROOT)} imports {found}"


@pytest.mark.parametrize("room", DOORS)
def test_imports_point_one_way(room):
  for path in ROOMS[room]:
    for name in imported(path):
      assert name.split(".")[0] != "launch", f"{path.relative_to(ROOT)} imports {name}"
      parts = name.split(".")
      if parts[0] == "t5x_style" and len(parts) > 1:
        assert parts[1] in DOORS[room] | {"errors", "ranges"}, (
          f"{path.relative_to(ROOT)} imports {name}"
        )


def test_gin_is_only_in_launch():
  for path in FILES:
    if "gin" in {name.split(".")[0] for name in imported(path)}:
      assert path.relative_to(ROOT).parts[0] in ("launch", "tests"), path


def test_the_package_itself_is_a_docstring():
  (only,) = ast.parse((ROOT / "t5x_style/__init__.py").read_text()).body
  assert isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant)


def test_files_fit_in_the_head():
  """About 400 lines at most, and a first line that says what the file is."""
  texts = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
  assert {name: n for name, text in texts.items() if (n := len(text.splitlines())) > 400} == {}
  assert [name for name, x in texts.items() if x and not ast.get_docstring(ast.parse(x))] == []


# What goes wrong there is no mistake of a person: shapes that do not fit, a text of XLA's.
FAULTS = {
  "losses/chosen.py",
  "losses/chunking.py",
  "losses/linear_cross_entropy.py",
  "losses/pair_classification.py",
  "planning/collectives.py",
}


def raised(path):
  """The names of the exceptions that a file raises, outside the body of a try that handles them."""
  tree = ast.parse(path.read_text())
  handled = {
    id(inner)
    for node in ast.walk(tree)
    if isinstance(node, ast.Try) and node.handlers
    for statement in node.body
    for inner in ast.walk(statement)
  }
  for node in ast.walk(tree):
    if isinstance(node, ast.Raise) and id(node) not in handled:
      raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
      yield getattr(raised, "id", "")


@pytest.mark.parametrize("room", DOORS)
def test_mistakes_of_a_person_are_marked(room):
  """A command shows the message of a UserError; what else is raised ends in a traceback."""
  plain = {"ValueError", "FileNotFoundError", "ModuleNotFoundError", "PermissionError"}
  for path in ROOMS[room]:
    if path.relative_to(ROOT / "t5x_style").as_posix() not in FAULTS:
      assert not plain & set(raised(path)), (
        f"{path.relative_to(ROOT)}: raise t5x_style.errors.UserError"
      )
