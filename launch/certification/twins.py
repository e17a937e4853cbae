"""Twin runs: the same first parameters and batches here and in PyTorch, and the same curve.

A twin run is an ordinary run of gin_configs/certificate/twin_MODEL.gin. Beside it PyTorch trains
the published model as transformers has it (torch_twin.py). Rounding differs, and 500 steps of Adam
make such differences larger, so the losses are not equal, but nearly.

Where torch or transformers (version 5 or later) is not installed, the curve of PyTorch that was
kept in curves/ is compared with, if there is one for this text.
"""

import functools
import math
from collections.abc import Iterator
from pathlib import Path

import jax

from t5x_style.errors import UserError

from . import certificate, curves, runs, torch_twin
from .recipe import Context, Recipe

BOUND = 1e-3  # nats per token, at every step
# Rounding needs more steps than these to grow: a wrong setting shows here first.
EARLY_STEPS, EARLY_BOUND = 50, 2e-5


def recipes() -> Iterator[Recipe]:
  """Yields a recipe for each of the models."""
  for model_type in torch_twin.MODEL_TYPES:
    name = f"twin_{model_type}"
    run = functools.partial(_run, name, model_type)
    yield Recipe(name, functools.partial(_missing, name), run)


def _missing(name: str, context: Context) -> str:
  if torch_twin.versions() or curves.kept(name, context.text.sha256):
    return ""
  return f"needs torch and transformers 5: there is no kept curve for {context.text.name}"


def _run(name: str, model_type: str, context: Context) -> certificate.Line:
  folder = context.folder / name
  prepared = runs.prepare(f"certificate/{name}.gin", context.settings, folder / "run")
  context.say(f"{name}: {prepared.config.train_steps} steps here")
  try:
    with jax.default_matmul_precision("highest"):  # GPUs would multiply in TensorFloat-32.
      runs.train(prepared)
    own = runs.losses(folder / "run")
  except FloatingPointError as error:
    return _line(name, "failed", reason=f"The run diverged: {error}")
  if not torch_twin.versions():
    kept = curves.kept(name, context.text.sha256)
    assert kept is not None, "A recipe runs if `missing` is empty."
    made = ", ".join(f"{key} {kept.facts[key]}" for key in ("torch", "transformers", "jax"))
    return _judged(name, own, kept.losses, f"compared with the kept curve of {made}")
  context.say(f"{name}: the same steps in PyTorch")
  try:
    params = prepared.init(prepared.config.seed).params
    peer = list(torch_twin.losses(model_type, prepared, params))
  except (UserError, AssertionError, RuntimeError) as error:
    return _line(name, "failed", reason=f"This is no {model_type} of transformers: {error}")
  _write(folder / "curve.csv", name, own, peer, context)
  versions = torch_twin.versions()
  made = ", ".join(f"{package} {version}" for package, version in versions.items())
  return _judged(name, own, peer, f"compared with {made} on {context.text.name}", versions)


def _judged(
  name: str,
  own: list[float],
  peer: list[float],
  reason: str,
  versions: dict[str, str] | None = None,
) -> certificate.Line:
  largest, step = curves.largest_difference(own, peer)
  early, early_step = curves.largest_difference(own[:EARLY_STEPS], peer[:EARLY_STEPS])
  passed = largest <= BOUND and early <= EARLY_BOUND
  reason += f"; largest difference at step {step}, of the first {EARLY_STEPS} steps {early:.1e}"
  reason += f" (bound {EARLY_BOUND:.0e}) at step {early_step}"
  details = {
    "steps": len(own),
    "largest_difference_at_step": step,
    "early_difference": early if math.isfinite(early) else None,
    "early_bound": EARLY_BOUND,
    "losses_here": own,
    "losses_there": peer,
    **(versions or {}),
  }
  return _line(
    name,
    "passed" if passed else "failed",
    published=peer[-1],
    ours=own[-1],
    difference=largest if math.isfinite(largest) else None,
    bound=BOUND,
    reason=reason,
    details=details,
  )


def _line(name: str, verdict: certificate.Verdict, **values) -> certificate.Line:
  claim = "PyTorch's last loss and this package's, nats per token; the largest difference of a step"
  return certificate.Line(name, claim, verdict, **values)


def _write(path: Path, name: str, own: list[float], peer: list[float], context: Context) -> None:
  if len(own) != len(peer):
    return
  command = context.command.replace("{}", name)
  facts = {"command": command, **torch_twin.versions(), "jax": jax.__version__}
  curves.write(path, facts, {curves.OWN: own, curves.PEER: peer}, context.text.sha256)
