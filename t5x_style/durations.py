"""Durations as people read them."""


def duration(seconds: float) -> str:
  """Returns "0.4 s", "12 s", "3 min 05 s", or "2 h 10 min"."""
  if seconds < 10:
    return f"{seconds:.1f} s"
  whole = round(seconds)
  if whole < 60:
    return f"{whole} s"
  if whole < 3600:
    return f"{whole // 60} min {whole % 60:02d} s"
  return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"
