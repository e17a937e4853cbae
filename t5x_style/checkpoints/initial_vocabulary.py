"""Checks that ids mean the same in a run as in the checkpoint that it starts from."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from t5x_style.checkpoints import reading, step_folders
from t5x_style.codecs import vocabulary_folder
from t5x_style.codecs.text_codec import TextCodec
from t5x_style.errors import UserError
from t5x_style.training.dataset import Dataset

# From this share of ids on whose text is another, a checkpoint is of another vocabulary. Fewer may
# be symbols that were given a new meaning.
_OTHER_VOCABULARY = 0.1


def check(path: str, dataset: Dataset) -> None:
  """Compares the vocabulary of a run's data with that of a checkpoint, piece by piece.

  New ids after the old ones are no difference. Warns of ids that mean something else, and if only
  the identities of the vocabularies can be compared. Checkpoints of other programs are not checked.

  Args:
    path: INITIAL_CHECKPOINT_PATH.

  Raises:
    UserError: a tenth or more of the ids stand for another text.
  """
  step = None if path.startswith("hf:") else step_folders.find_step(epath.Path(path).expanduser())
  if step is None:
    return
  old = reading.read_run_of_parameters(step).get("identity", {}).get("data", {}).get("vocabulary")
  new = dataset.identity().get("vocabulary")
  if not old or not new or _unnamed(old) == _unnamed(new):
    return
  codec, stored = None, _stored(step, old)
  with contextlib.suppress(UserError):  # It is a vocabulary of a kind that is not known.
    codec = getattr(dataset, "codec", None)
  begin = f"INITIAL_CHECKPOINT_PATH = {path!r} was trained with another vocabulary"
  if codec is None or stored is None:
    facts = _differing(old, new)
    warnings.warn(f"{begin}: {facts}. Its ids may mean other pieces here.", stacklevel=2)
    return
  changed = list(_changed(stored, codec))
  if not changed:
    return
  of_text = [i for i in changed if i not in stored.marks]
  count = min(stored.vocab_size, codec.vocab_size)
  i = (of_text or changed)[-1]
  was, now = (shown.pieces([i])[0] for shown in (stored, codec))
  text = (
    f"{begin}: {len(changed):,} of {count:,} ids mean something else here, for example id {i} was "
    f"{was!r} and is {now!r}. Set VOCABULARY_FILE and EXTRA_IDS as they were; new special tokens "
    "can take ids of sentinels (specials_from_extra_ids)."
  )
  if len(of_text) >= _OTHER_VOCABULARY * count:
    raise UserError(text)
  warnings.warn(text, stacklevel=2)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
  return "; ".join(
    f"{name} was {old.get(name)!r} and is {new.get(name)!r}"
    for name in sorted(old.keys() | new.keys())
    if old.get(name) != new.get(name)
  )


def _stored(step: epath.Path, identity: Mapping[str, Any]) -> TextCodec | None:
  """Returns the codec that was stored beside a checkpoint, if it is the one of its run."""
  for folder in (step, step.parent.parent):
    with contextlib.suppress(UserError):  # It is damaged.
      found = vocabulary_folder.read(folder / vocabulary_folder.FOLDER)
      if found is not None and _unnamed(found.identity) == _unnamed(identity):
        return found.codec
  return None


def _unnamed(identity: Mapping[str, Any]) -> dict[str, Any]:
  return {name: value for name, value in identity.items() if name != "name"}


def _changed(old: TextCodec, new: TextCodec) -> Iterator[int]:
  """Yields the ids that both have and that are shown as something else."""
  pairs = zip(old.visible_bytes, new.visible_bytes, strict=False)
  yield from (i for i, (was, now) in enumerate(pairs) if was != now)
