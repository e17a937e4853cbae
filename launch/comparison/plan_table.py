"""The plan of a comparison as a text: steps, tokens and FLOPs of each candidate."""

from collections.abc import Mapping
from typing import Any

from t5x_style.comparison import budget, halving
from t5x_style.comparison.settings import Comparison


def text(
  comparison: Comparison, candidates: Mapping[str, Any], data: Mapping[str, Mapping[str, float]]
) -> str:
  """Returns the table; its tokens are those that a model reads and writes, without padding.

  Args:
    candidates: {name: facts with "steps"}; steps are None if the speed is not measured yet.
    data: {name: figures of its data, as launch.comparison.describe measures them}.
  """
  seeds = comparison.seeds
  unit = budget.UNITS[comparison.budget]
  lines = [
    f"{len(candidates) * len(seeds)} runs: {len(candidates)} candidates with "
    f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}, {comparison.amount:,.4g} {unit} each"
    + (f", {comparison.at_once} at once" if comparison.at_once > 1 else "")
  ]
  width = max(map(len, candidates)) + 2
  lines.append(
    f"  {'candidate':<{width}}{'architecture':<17}{'parameters':>12}{'without vocab.':>16}"
    f"{'row':>17}{'steps':>9}{'tokens':>13}{'FLOPs':>11}"
  )
  for name, facts in candidates.items():
    lines.append(f"  {name:<{width}}{_row(facts, data[name])}")
  if comparison.halve_by:
    rounds = halving.rounds(len(candidates))
    parts = [f"{x.candidates} up to {x.share:.0%} of the budget" for x in rounds]
    lines.append(f"Successive halving by {comparison.halve_by}: {', then '.join(parts)}.")
  return "\n".join(lines)


def _row(facts: Mapping[str, Any], data: Mapping[str, float]) -> str:
  steps = facts["steps"]
  counts = [f"{'measured':>9}{'':>24}"]
  if steps is not None:
    tokens, flops = steps * facts["step_positions"] * data["filled"], steps * facts["step_flops"]
    counts = [f"{steps:>9,}{tokens:>13,.0f}{flops:>11.3g}"]
  row = f"{facts['batch_size']} x {' + '.join(map(str, facts['row'].values()))}"
  return (
    f"{facts['architecture'].replace('_', '-'):<17}{facts['parameters']:>12,}"
    f"{facts['parameters_without_vocabulary']:>16,}{row:>17}{''.join(counts)}"
  )
