"""Numbers as people read them in tables and at the axes of charts."""

import math

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short_number(value: float) -> str:
  """Returns a number for an axis: "0.05", "250", "1.5k", "20M", "3e+15", "1e-05"."""
  if value == 0 or not math.isfinite(value):
    return "0" if value == 0 else str(value)
  size = abs(value)
  if size >= 1e15 or size < 1e-3:
    return f"{value:.3g}"
  for unit, name in _UNITS:
    if size >= unit * (1 - 1e-9):
      return f"{value / unit:.4g}{name}"
  return f"{value:.4g}"


def cell_text(value: object) -> str:
  """Returns the text of a table's cell: numbers with four digits, "–" for None and NaN."""
  if value is None or (isinstance(value, float) and math.isnan(value)):
    return "–"
  if isinstance(value, bool) or not isinstance(value, int | float):
    return str(value)
  if isinstance(value, int) or 1e4 <= abs(value) < 1e9:
    return f"{value:,.0f}"
  return f"{value:.4g}"
