"""The results of a GPU day: one JSON file, which a second start continues."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..process.errors import ConfigurationError

FILE = "gpu.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "transformers", "tokamax")
_QUERY = "name,driver_version,memory.total,power.limit"


class Results:
  """What FOLDER/gpu.json holds; every change is written at once.

  Attributes:
    content: {"machine", "tiny", "parts": {name: what gpu.py says about it}}.
  """

  def __init__(self, folder: Path, content: dict[str, Any]):
    self._folder, self.content = folder, content

  @classmethod
  def open(cls, folder: Path, tiny: bool) -> "Results":
    """Opens the results of a folder, or begins them.

    Raises:
      ConfigurationError: they are of another machine or other versions, or of other sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"machine": machine(), "tiny": tiny, "parts": {}}
    file = folder / FILE
    if file.exists():
      before = json.loads(file.read_text())
      for name in ("machine", "tiny"):
        if before[name] != content[name]:
          raise ConfigurationError(
            f"--to={folder} holds the results of another {name} ({before[name]}; this is "
            f"{content[name]}); name a new folder."
          )
      content = before
    return cls(folder, content)

  @property
  def title(self) -> str:
    """The machine and its versions, in a line."""
    return title(self.content)

  def is_done(self, name: str) -> bool:
    return self.content["parts"].get(name, {}).get("outcome") == "done"

  def add(self, name: str, found: dict[str, Any]) -> None:
    """Notes what there is to say about a part, and writes the file."""
    self.content["parts"][name] = found
    new = self._folder / f".{FILE}.tmp"
    new.write_text(json.dumps(self.content, indent=1) + "\n")
    os.replace(new, self._folder / FILE)


def machine() -> dict[str, Any]:
  """Returns the card, its driver, and the versions of what is installed; imports nothing of it."""
  facts: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count()}
  facts["versions"] = {name: version for name in _PACKAGES if (version := _version(name))}
  facts["card"], facts["driver"] = f"no GPU, {platform.machine()}", None
  if shutil.which("nvidia-smi"):
    command = ["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0 and done.stdout.strip():
      cards = [line.split(", ") for line in done.stdout.strip().splitlines()]
      facts |= dict(zip(("card", "driver", "memory", "power_limit"), cards[0], strict=True))
      facts["cards"] = len(cards)
  return facts


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def title(content: dict[str, Any]) -> str:
  """Returns the machine of some results in a line."""
  facts = content["machine"]
  words = [facts["card"], *([f"driver {facts['driver']}"] if facts["driver"] else [])]
  words += [f"{name} {version}" for name, version in facts["versions"].items()]
  return ", ".join(words) + (" (tiny sizes: no figures)" if content["tiny"] else "")


def rows_of(lines: str) -> list[dict[str, Any]]:
  """Returns the rows that a benchmark printed with --json; other lines are passed over."""
  rows = []
  for line in lines.splitlines():
    if line.startswith("{"):
      try:
        rows.append(json.loads(line))
      except json.JSONDecodeError:
        continue  # The process was ended while it wrote this line.
  return rows


def last_line(log: str) -> str:
  """Returns the last line of a log that says something."""
  lines = [line.strip() for line in log.splitlines() if line.strip()]
  return lines[-1][:300] if lines else "it printed nothing"


def left_out(content: dict[str, Any]) -> str:
  """Returns a sentence with the parts that were not measured, and why."""
  parts = content["parts"].items()
  found = [f"{name} ({part['why']})" for name, part in parts if part["outcome"] == "left out"]
  return f"Left out: {', '.join(found)}." if found else "Nothing was left out."
