"""Plots measured steps under the roofline of their device: FLOP/s against FLOPs per byte.

Bytes are the least that a step has to move: parameters, gradients and both moments of AdamW, each
read and written once. The real traffic is larger, so a step is plotted too far to the right; the
plot shows how far it is below the flat part of the roofline.
"""

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t5x_style.hardware import find_accelerator

from ..process.errors import ConfigurationError

_BYTES_PER_PARAMETER = 4 * 2 * 4  # float32, read and written: parameter, gradient, two moments.


def check(path: Path) -> None:
  """Raises ConfigurationError, before anything is measured, if the plot cannot be drawn."""
  if importlib.util.find_spec("matplotlib") is None:
    raise ConfigurationError("--roofline needs matplotlib: pip install matplotlib.")
  if path.suffix != ".png" or not path.absolute().parent.is_dir():
    raise ConfigurationError(
      f"--roofline={str(path)!r} must be a .png file in a folder that exists, e.g. roofline.png."
    )


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
  """Draws a point for every row, and the roofline if the device's peak is known."""
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(8, 5), layout="constrained")
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  for row in rows:
    moved = _BYTES_PER_PARAMETER * row["num_parameters"]
    intensity = row["step_flops"] / moved
    axes.plot(intensity, row["tflops"], "o", label=f"{row['case']}, {row['label']}")
    if row.get("peer_step_seconds"):
      rate = row["step_flops"] / row["peer_step_seconds"] / 1e12
      axes.plot(intensity, rate, "x", color=axes.lines[-1].get_color())
  _roof(axes, rows)
  axes.set(xscale="log", yscale="log", xlabel="FLOPs a byte, at least moved", ylabel="TFLOP/s")
  axes.set_title(f"{rows[0]['num_devices']} x {rows[0]['device']}  (o t5x_style, x peer)")
  axes.grid(True, which="both", alpha=0.2)
  axes.legend(fontsize=8)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    figure.savefig(path, dpi=150)


def _roof(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
  peak, accelerator = rows[0].get("peak_tflops"), find_accelerator(rows[0]["device"])
  if not peak or accelerator is None:
    return
  slope = accelerator.hbm_bandwidth * rows[0]["num_devices"] / 1e12
  corner = peak / slope
  axes.plot([corner / 30, corner, corner * 100], [peak / 30, peak, peak], "k-", linewidth=1)
