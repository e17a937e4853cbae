"""What is imported is declared, what is declared is used, and the documentation lists it."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Installed for other packages; the page says for which.
NOT_IMPORTED = {"importlib-resources", "tensorflow-text", "tensorflow-datasets"}
# Modules whose packages do not have the name of the module, or share it.
SHARED = {"protobuf", "google-crc32c", "backports-zstd"}
# Peers of benchmarks, whose files say how to install them, and parts of declared packages.
NOT_DECLARED = {"torch", "t5", "t5x", "datasets", "google", "jaxlib", "markupsafe", "pydantic_core"}
# {words in a package's metadata: how the page writes that licence}
LICENCES = {
  "apache": "Apache-2.0",
  "bsd": "BSD-",
  "mit": "MIT",
  "python software foundation": "PSF-2.0",
  "psf-2.0": "PSF-2.0",
  "mpl-2.0": "MPL-2.0",
  "gpl-3.0": "GPL-3.0",
}


def normal(name):
  return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements):
  return {normal(re.match(r"[\w.-]+", text)[0]) for text in requirements} - {"t5x-style"}


CORE = names(PROJECT["dependencies"])
EXTRAS = {name: names(values) for name, values in PROJECT["optional-dependencies"].items()}
PAGE = (ROOT / "docs/reference/dependencies.md").read_text()
ROWS = {
  normal(name): cells[-1]
  for row in re.findall(r"^\| (?!package|extra|-)(.+) \|$", PAGE, re.MULTILINE)
  for cells in [row.split(" | ")]
  for name in cells[len(cells) - 3].split(", ")
}


def imported(*folders):
  """The top-level modules that the files of folders import."""
  found = set()
  for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        found |= {alias.name.split(".")[0] for alias in node.names}
      elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        found.add(node.module.split(".")[0])
  return found - set(sys.stdlib_module_names) - {"t5x_style", "launch", "tests"}


def packages_of(modules):
  providers = importlib.metadata.packages_distributions()
  return {module: {normal(name) for name in providers.get(module, ())} for module in modules}


def test_what_the_core_imports_is_declared():
  declared = CORE.union(*EXTRAS.values())
  undeclared = {
    module: found
    for module, found in packages_of(imported("t5x_style", "launch")).items()
    if found and not found & declared and module not in NOT_DECLARED
  }
  assert undeclared == {}


def test_what_is_declared_is_imported():
  used = set().union(*packages_of(imported("t5x_style", "launch")).values())
  named = {module.replace("_", "-") for module in imported("t5x_style", "launch")}
  unused = CORE - used - named - NOT_IMPORTED - SHARED
  assert unused == set()


def test_the_page_lists_every_dependency_and_no_other():
  assert set(ROWS) == CORE.union(*EXTRAS.values())


@pytest.mark.parametrize("name", sorted(ROWS))
def test_licences_are_those_of_the_installed_packages(name):
  try:
    facts = importlib.metadata.metadata(name)
  except importlib.metadata.PackageNotFoundError:
    pytest.skip("not installed")
  classifiers = [x for x in facts.get_all("Classifier", []) if x.startswith("License")]
  stated = [facts.get("License-Expression"), *classifiers, (facts.get("License") or "")[:60]]
  text = " ".join(filter(None, stated)).lower()
  if not text.strip():
    pytest.skip("its metadata states none")
  assert any(word in text and ROWS[name].startswith(short) for word, short in LICENCES.items()), (
    text
  )
