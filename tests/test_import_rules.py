"""The rules about imports, folders and files. A test that fails lists all that break its rule."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.same_behaviour import COMMANDS

ROOT = Path(__file__).parents[1]
# From the top down: a file imports files of its own room and of rooms in lower layers.
LAYERS = (
  ("launch",),
  ("trained",),
  ("interop",),
  ("checkpoints", "reporting", "planning"),
  ("training", "inference"),
  ("models", "losses"),
  ("partitioning", "codecs"),
)
LAYER = {room: depth for depth, layer in enumerate(LAYERS) for room in layer}
# These import no JAX and no other room, except that token_cache may import codecs. What reads and
# compares the results of runs is imported only by launch, token_cache by data, too.
SEPARATE = ("comparison", "results", "token_cache")
# These run without the packages of data.
CORE = (*(room for layer in LAYERS[1:] for room in layer), *SEPARATE)
# data is separate: only launch imports it, and it imports no other rooms but these.
DATA_MAY_IMPORT = ("codecs", "token_cache")
ROOMS = (*LAYER, *SEPARATE, "data")
# Files that every room may import.
SHARED = (
  "architectures",
  "durations",
  "errors",
  "hardware",
  "likelihoods",
  "objective_tasks",
  "sentinels",
  "setting_types",
  "shipped_vocabulary",
  "soft_cap",
  "span_lengths",
)
# The same inside a room, for folders and for files that have a layer of their own. A module belongs
# to the longest name that it begins with.
LAYERS_INSIDE = (
  (
    ("launch",),
    (
      "launch.benchmarks",
      "launch.caching",
      "launch.certification",
      "launch.clusters",
      "launch.comparison",
      "launch.evaluation",
      "launch.hosts",
      "launch.inference",
      "launch.sizing",
    ),
    ("launch.checkpoints", "launch.torch_peers"),
    ("launch.conversion",),
    ("launch.configuration",),
    ("launch.process",),
  ),
  (
    ("interop",),
    ("interop.huggingface", "interop.t5x"),
    ("interop.huggingface.families",),
    tuple(
      f"interop.huggingface.{file}"
      for file in ("config_json", "config_keys", "rotary_keys", "safetensors_files", "tensor_rules")
    ),
  ),
  (
    ("models",),
    ("models.attention_kernels",),
    ("models.config", "models.fp8", "models.ops"),
    ("models.experts",),
  ),
  (
    ("data.preview",),
    ("data",),
    ("data.random_access",),
    ("data.corpus_mixture", "data.run_facts"),
    ("data.corpora", "data.objectives"),
    ("data.corpora.reading", "data.model_ids"),
    ("data.tokenizers",),
    tuple(
      f"data.{file}"
      for file in (
        "arrays",
        "converters",
        "map_options",
        "noise",
        "numpy_arrays",
        "optional_features",
        "packing",
        "pieces",
        "python_calls",
        "skip_counts",
        "tensorflow_setup",
        "tf_arrays",
        "window_stream",
        "windows",
      )
    ),
  ),
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


def folder_of(module: str, packages: Iterable[str]) -> str:
  """The package that a module is in; a package is in itself."""
  return module if module in packages else module.rpartition(".")[0]


def folder_graph(edges: Mapping[str, set[str]], packages: Iterable[str]) -> dict[str, set[str]]:
  """{folder: those that its files import from}, without those that contain it or are inside it."""
  folders: dict[str, set[str]] = {folder_of(module, packages): set() for module in edges}
  for module, targets in edges.items():
    for target in targets:
      a, b = folder_of(module, packages), folder_of(target, packages)
      if not f"{a}.".startswith(f"{b}.") and not f"{b}.".startswith(f"{a}."):
        folders[a].add(b)
  return folders


def part_of(module: str, layers: Iterable[Iterable[str]]) -> tuple[int, str] | None:
  """(layer, folder) of the part of a room that a module belongs to; None for other rooms."""
  module = module.removeprefix("t5x_style.")
  found = [
    (len(name), depth, name)
    for depth, layer in enumerate(layers)
    for name in layer
    if f"{module}.".startswith(f"{name}.")
  ]
  if not found:
    return None
  _, depth, name = max(found)
  return depth, name if (ROOT / "t5x_style" / name.replace(".", "/")).is_dir() else ""


def listed(offenders: Iterable[object]) -> str:
  return "\n" + "\n".join(sorted(map(str, offenders)))


def test_no_files_import_each_other():
  assert circles(graph()) == []


def test_a_circle_is_found_wherever_it_closes():
  edges = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e_2"}, "e_2": {"a", "e"}}
  assert circles(edges) == [["b", "c"], ["e", "e_2"]]


def test_no_folders_import_each_other():
  """A folder and those inside it may: LAYERS_INSIDE says which of their files are below others."""
  packages = {name for name, path in modules().items() if path.name == "__init__.py"}
  assert circles(folder_graph(graph(), packages)) == []


def test_a_circle_of_folders_is_found_without_one_of_files():
  packages = {"a", "b", "c", "a.inside"}
  edges = {"a.x": {"b.x"}, "a.y": {"a.inside.z"}, "a.inside.z": {"a.x", "c"}, "b.x": {"c.x"}}
  edges |= {"b.y": {"a.y"}, "c": set(), "c.x": {"c"}}
  assert circles(edges) == []
  assert circles(folder_graph(edges, packages)) == [["a", "b"]]


def test_imports_inside_a_room_point_one_way():
  wrong = []
  for layers in LAYERS_INSIDE:
    for module, targets in graph().items():
      for target in targets:
        here, there = part_of(module, layers), part_of(target, layers)
        if here and there and here != there and here[0] >= there[0]:
          wrong.append(f"{module} -> {target}")
  assert not wrong, listed(wrong)


def test_imports_point_one_way():
  """launch -> trained -> interop -> checkpoints, ... -> partitioning, codecs; data aside."""
  aside = {("data", room) for room in DATA_MAY_IMPORT} | {
    ("token_cache", "codecs"),
    ("", "trained"),
  }

  def allowed(room: str, target: str) -> bool:
    if room == target or target in ("", *SHARED) or room == "launch":
      return True
    if (room, target) in aside:
      return True
    return room in LAYER and target in LAYER and LAYER[room] < LAYER[target]

  wrong = {
    f"{module} -> {target}"
    for module, targets in graph().items()
    for target in targets
    if not allowed(room_of(module), room_of(target))
  }
  assert not wrong, listed(wrong)


def test_every_folder_is_a_room():
  """A new room needs its place in the layers above."""
  packages = (name for name, path in modules().items() if path.name == "__init__.py")
  folders = {name.removeprefix("t5x_style.") for name in packages} - {"t5x_style"}
  assert {name for name in folders if "." not in name} == set(ROOMS)
  parts = {name for layers in LAYERS_INSIDE for layer in layers for name in layer}
  assert {name for name in folders if "." in name} <= parts
  known = {name.removeprefix("t5x_style.") for name in modules()}
  assert parts <= known


def test_the_core_names_no_tensorflow_seqio_or_gin():
  """Not even inside a function; gin is only in launch."""
  wrong = []
  for module, path in modules().items():
    forbidden = DATA_AND_GIN if room_of(module) in CORE else {"gin"}
    if room_of(module) != "launch":
      wrong += [f"{module} -> {x}" for x in imported(path) if x.split(".")[0] in forbidden]
  assert not wrong, listed(wrong)


def test_what_trains_names_no_terminal_writer_or_flag():
  """training and the rooms below it get a reporter as an argument; checkpoints print nothing."""
  quiet = {room for layer in LAYERS[4:] for room in layer} | {"checkpoints", *SEPARATE}
  wrong = [
    f"{module} -> {name}"
    for module, path in modules().items()
    if room_of(module) in quiet
    for name in imported(path)
    if name.split(".")[0] in TERMINAL_AND_FLAGS
  ]
  assert not wrong, listed(wrong)


def test_the_core_loads_no_tensorflow_seqio_or_gin():
  """Nor do the packages that it imports: all are imported in a new process."""
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


def test_separate_rooms_load_no_jax_and_no_library_that_draws():
  """So a report is quick, and reads the run of another machine without the packages of a run."""
  rooms = [module for module in modules() if room_of(module) in SEPARATE]
  program = f"""
import importlib, sys
for module in {rooms!r}:
  importlib.import_module(module)
  found = {DATA_AND_GIN | {"jax", "flax", "matplotlib", "jinja2"}!r} & set(sys.modules)
  assert not found, f"{{module}} loads {{found}}"
"""
  run = subprocess.run(
    [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
  )
  assert run.returncode == 0, run.stderr[-500:]


def test_importing_the_package_loads_nothing():
  """It holds a docstring and `load`, which is imported when it is used."""
  docstring, *functions = tree_of(ROOT / "t5x_style/__init__.py").body
  assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)
  assert [getattr(x, "name", None) for x in functions] == ["__getattr__"]


def test_every_folder_of_python_says_what_it_holds():
  folders = {path.parent for path in modules().values()}
  files = [folder / "__init__.py" for folder in folders]
  wrong = [relative(x) for x in files if not x.exists() or not ast.get_docstring(tree_of(x))]
  assert not wrong, listed(wrong)


def test_files_of_launch_are_commands():
  """Each is one file, whose docstring says how to start it; all other code is in folders."""
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


# Errors there are never a user's mistake: shapes that do not fit, or HLO that cannot be parsed.
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
