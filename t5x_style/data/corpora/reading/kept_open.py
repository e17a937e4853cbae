"""Keeps files open where a reader stopped, since finding the place again may take time."""

from __future__ import annotations

import collections
import threading
from collections.abc import Hashable
from typing import Any

# SeqIO reads 16 files at once, for every stream and every part of a mixture.
MOST = 512


class KeptOpen:
  """Open readers with a `close`, by the position that they have reached; MOST of them at most."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._open: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()

  def take(self, position: Hashable) -> Any:
    """Returns the reader that is at a position, which is not kept any more; None if none is."""
    with self._lock:
      return self._open.pop(position, None)

  def put(self, position: Hashable, reader: Any) -> None:
    """Keeps a reader; closes another one that is at the same position, or the oldest."""
    with self._lock:
      closing = [self._open.pop(position, None)]
      self._open[position] = reader
      if len(self._open) > MOST:
        closing.append(self._open.popitem(last=False)[1])
    for other in closing:
      if other is not None:
        other.close()
