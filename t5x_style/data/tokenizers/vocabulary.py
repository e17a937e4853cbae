"""The type of vocabularies, for code that does not import SeqIO."""

from __future__ import annotations

from typing import Any, Protocol


class Vocabulary(Protocol):
  """What is used here of SeqIO's vocabularies; their ids have padding at 0 and sentinels last."""

  @property
  def vocab_size(self) -> int: ...

  @property
  def extra_ids(self) -> int: ...

  @property
  def eos_id(self) -> Any: ...

  @property
  def unk_id(self) -> Any: ...

  def encode(self, s: str) -> Any: ...

  def decode(self, ids: Any) -> str: ...

  def encode_tf(self, s: Any) -> Any: ...
