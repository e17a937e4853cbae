"""Checks that all processes of a job were started alike, before anything could make them wait.

Every setting has to be equal, also periods and paths: a process that saves or evaluates at another
step waits for the others for ever, and one with another learning rate trains another model.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t5x_style.errors import shortened

from . import environment, watchdog
from .errors import ConfigurationError

# A process that is alive, but needs longer than this to read its settings or to open its data, is
# taken for lost. A dead one is noticed at once.
_PATIENCE_SECONDS = 1800
_POLL_SECONDS = 0.2

_FOLDER = "t5x_style"  # of the keys in the store that the processes of a job share
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_WIDEST = 120  # of a value in a message


def check(about: str, facts: Mapping[str, str]) -> None:
  """Compares facts with those of the other processes of the job; returns at once if there are none.

  All processes of the job call it, each with its own facts.

  Args:
    about: what the facts are, one word that no other call uses: "settings".
    facts: {name: value}.

  Raises:
    ConfigurationError: they differ (all processes say the same then), or another process has ended
      because of a mistake.
    ProcessLostError: another process does not come this far.
  """
  store, index, count = _job()
  if store is None:
    return
  _name_host(store, index)
  text = json.dumps(dict(facts), sort_keys=True)
  store.key_value_set(f"{_FOLDER}/{about}/facts/{index}", text)
  digest = hashlib.sha256(text.encode()).hexdigest()
  store.key_value_set(f"{_FOLDER}/{about}/digests/{index}", digest)
  digests = _all_values(store, f"{_FOLDER}/{about}/digests/", count)
  others = [other for other in range(count) if digests[other] != digests[0]]
  if others:
    first, other = (
      json.loads(store.blocking_key_value_get(f"{_FOLDER}/{about}/facts/{i}", 60_000))
      for i in (0, others[0])
    )
    hosts = [_host_of(store, i) for i in (0, others[0])]
    raise ConfigurationError(_difference(about, first, other, others, hosts))


def place() -> tuple[int, int]:
  """Returns the index of this process, and the number of processes of its job."""
  _, index, count = _job()
  return index, count


def gathered(about: str, value: str) -> list[str]:
  """Gives every process the values of all, in the order of their indices. All processes call it.

  Args:
    about: what the values are, one word that no other call uses.

  Raises:
    ConfigurationError, ProcessLostError: as `check`.
  """
  store, index, count = _job()
  if store is None:
    return [value]
  store.key_value_set(f"{_FOLDER}/{about}/values/{index}", value)
  values = _all_values(store, f"{_FOLDER}/{about}/values/", count)
  return [values[i] for i in range(count)]


def meet(about: str) -> None:
  """Waits until all processes are here; they leave within milliseconds of each other.

  Args:
    about: one word that no other call uses.

  Raises:
    ProcessLostError: another process does not come this far.
  """
  store, _, _ = _job()
  if store is None:
    return
  gathered(f"before {about}", "here")  # Says which process is missing, and why.
  try:
    store.wait_at_barrier(f"{_FOLDER} {about}", _PATIENCE_SECONDS * 1000)
  except RuntimeError as error:
    reason = str(error).strip().splitlines()[0]
    raise watchdog.ProcessLostError(f"A process of this job is lost ({reason}).") from error


def report_mistake(message: str) -> None:
  """Tells the other processes, which wait in `check`, why this one ends."""
  store, index, _ = _job()
  with contextlib.suppress(RuntimeError):  # The others are not reachable any more, or not yet.
    if store is not None:
      _name_host(store, index)
      store.key_value_set(f"{_FOLDER}/mistakes/{index}", message, allow_overwrite=True)


def software() -> dict[str, str]:
  """Returns the versions of the packages that compute, a digest of this code, and XLA's flags."""
  facts = {f"version of {name}": importlib.metadata.version(name) for name in _PACKAGES}
  facts["version of Python"] = platform.python_version()
  facts["code of t5x_style"] = _code_digest()
  for variable, flags in environment.xla_facts().items():
    # Where a program is dumped to does not change it.
    kept = [flag for flag in flags.split() if not flag.startswith("--xla_dump")]
    facts[variable] = " ".join(kept)
  return facts


def flat(tree: Any, name: str) -> dict[str, str]:
  """Returns {"name.key.key": value} of all values in JSON."""
  if not isinstance(tree, Mapping) or not tree:
    return {name: json.dumps(tree, sort_keys=True)}
  return {k: v for key, value in tree.items() for k, v in flat(value, f"{name}.{key}").items()}


@functools.cache
def _code_digest() -> str:
  launch = Path(__file__).parents[1]
  package = next(
    folder
    for folder in (launch.parent, launch.parent / "t5x_style")
    if (folder / "errors.py").exists()
  )
  digest = hashlib.sha256()
  for folder in (launch, package):
    for path in sorted(folder.rglob("*.py")):
      digest.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
  return digest.hexdigest()[:16]


def _job() -> tuple[Any, int, int]:
  """Returns the store that the processes share, this one's index, and their number.

  The store is None for a process that is alone.
  """
  if not watchdog.connected():
    return None, 0, 1
  from jax._src import distributed  # The store has no public name; Orbax takes it from here, too.

  state = distributed.global_state
  return state.client, state.process_id, state.num_processes


def _name_host(store: Any, index: int) -> None:
  store.key_value_set(f"{_FOLDER}/hosts/{index}", socket.gethostname(), allow_overwrite=True)


def _host_of(store: Any, index: int) -> str:
  return store.blocking_key_value_get(f"{_FOLDER}/hosts/{index}", 60_000)


def _all_values(store: Any, folder: str, count: int) -> dict[int, str]:
  """Waits until every process has put its value into a folder of the store; returns the values."""
  deadline = time.monotonic() + _PATIENCE_SECONDS
  while True:
    values = _values(store, folder)
    if len(values) == count:
      return values  # Also if another process has ended since: all say the same about the values.
    for index, message in _values(store, f"{_FOLDER}/mistakes/").items():
      host = _host_of(store, index)
      raise ConfigurationError(f"Process {index} of this job on {host} has ended: {message}")
    if time.monotonic() > deadline:
      missing = ", ".join(str(i) for i in range(count) if i not in values)
      raise watchdog.ProcessLostError(
        f"Of the {count} processes of this job, these did not start within "
        f"{_PATIENCE_SECONDS // 60} minutes: {missing}."
      )
    time.sleep(_POLL_SECONDS)


def _values(store: Any, folder: str) -> dict[int, str]:
  try:
    return {int(key.rpartition("/")[2]): x for key, x in store.key_value_dir_get(folder)}
  except RuntimeError as error:
    reason = str(error).strip().splitlines()[0]
    raise watchdog.ProcessLostError(f"Process 0 of this job is lost ({reason}).") from error


def _difference(
  about: str,
  first: Mapping[str, str],
  other: Mapping[str, str],
  others: Sequence[int],
  hosts: Sequence[str],
) -> str:
  """Returns the message about what process 0 and the first of `others` do not have in common.

  Args:
    hosts: the names of the hosts of these two processes.
  """
  names = [name for name in sorted({*first, *other}) if first.get(name) != other.get(name)]
  lines = [
    f"  {name}: {_value(first, name)} in process 0, {_value(other, name)} in process {others[0]}"
    for name in names
  ]
  where = f"process 0 runs on {hosts[0]}, process {others[0]} on {hosts[1]}"
  also = f" (and other values in {len(others) - 1} more processes)" if len(others) > 1 else ""
  return (
    f"The processes of this job were started with different {about}{also}; {where}:\n"
    + "\n".join(shortened(lines))
    + "\nGive all processes the same gin files, flags and versions, and let them read the same "
    "files."
  )


def _value(facts: Mapping[str, str], name: str) -> str:
  value = facts.get(name, "nothing")
  return value if len(value) <= _WIDEST else f"{value[:_WIDEST]} ..."
