"""What a certificate's folder remembers: finished recipes are skipped, interrupted ones resume.

FOLDER/RECIPE/recipe.json has the plan of a recipe (text, settings, code and packages) and, once it
is finished, its line. A recipe with another plan begins again: a result of other code is no result.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import t5x_style

from ..configuration.gin_files import SHIPPED
from ..process import whole_files
from . import certificate, elsewhere, torch_twin
from .recipe import Context, Recipe

_LAUNCH = Path(__file__).parents[1]


def run(recipes: Sequence[Recipe], context: Context) -> Iterator[certificate.Line]:
  """Yields the line of each recipe, as soon as it is known.

  Raises:
    StoppedError: a signal came; what is finished is kept, and the run under way has saved.
  """
  plan = plan_of(context)
  for recipe in recipes:
    if reason := recipe.missing(context):
      yield elsewhere.line(recipe, reason)
    else:
      yield _finished(recipe, context, plan)


def plan_of(context: Context) -> dict[str, Any]:
  """Returns what a result depends on."""
  return {
    "text": context.text.sha256,
    "settings": list(context.bindings),
    "code": _digest_of_code(),
    "jax": jax.__version__,
    **torch_twin.versions(),
  }


def finished_before(recipes: Iterable[Recipe], context: Context) -> dict[str, certificate.Line]:
  """Returns {name: line} of the recipes that this folder has with the present plan."""
  plan, lines = plan_of(context), {}
  for recipe in recipes:
    path = context.folder / recipe.name / "recipe.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if "line" in known and known["plan"] == plan:
      lines[recipe.name] = certificate.line_of_json(known["line"])
  return lines


def _finished(recipe: Recipe, context: Context, plan: Mapping[str, Any]) -> certificate.Line:
  folder = context.folder / recipe.name
  path = folder / "recipe.json"
  known = json.loads(path.read_text()) if path.exists() else {}
  if known and known["plan"] != plan:
    changed = [name for name in plan if known["plan"].get(name) != plan[name]]
    context.say(f"{recipe.name}: begins again, with other {' and '.join(changed) or 'packages'}")
    shutil.rmtree(folder)
    known = {}
  if "line" in known:
    context.say(f"{recipe.name}: was finished before")
    return certificate.line_of_json(known["line"])
  folder.mkdir(parents=True, exist_ok=True)
  whole_files.write_json(path, {"plan": plan})
  line = recipe.run(context)
  whole_files.write_json(path, {"plan": plan, "line": line.as_json()})
  return line


def _digest_of_code() -> str:
  """Returns a digest of this package's Python and gin files."""
  assert t5x_style.__file__ is not None
  roots = (Path(t5x_style.__file__).parent, _LAUNCH, SHIPPED)
  named: dict[str, Path] = {}
  for root in roots:
    for pattern in ("*.py", "*.gin"):
      named |= {f"{root.name}/{path.relative_to(root)}": path for path in root.rglob(pattern)}
  digest = hashlib.sha256()
  for name, path in sorted(named.items()):
    digest.update(f"{name}\n".encode() + path.read_bytes())
  return digest.hexdigest()
