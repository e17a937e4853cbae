"""Ways to damage a checkpoint on the disk, and a few steps of a run to damage."""

import shutil

import tensorstore as ts


def largest(step):
  """The largest file of the state of a step: its arrays."""
  return max((step / "state").rglob("d/*"), key=lambda path: path.stat().st_size)


def flip(file, place, bit=0):
  """Changes one bit of a file; returns what the file held."""
  before = file.read_bytes()
  changed = bytearray(before)
  changed[place] ^= 1 << bit
  file.write_bytes(bytes(changed))
  return before


def change_a_number(step):
  """Changes one number of the embedding, as if it had been saved so."""
  arrays = {"driver": "ocdbt", "base": f"file://{step / 'state'}/"}
  place = arrays | {"path": "params.token_embed.embedding/"}
  array = ts.open({"driver": "zarr", "kvstore": place}).result()
  array[3, 5] = array[3, 5].read().result() + 0.5


def copy_from_step_2(*items):
  def damage(step):
    for item in items:
      shutil.rmtree(step / item)
      shutil.copytree(step.parent / "2" / item, step / item)

  return damage


def _cut(step):
  _cut_in_half(largest(step))


def cut_every_array(step):
  """Cuts all files of arrays, for readers of the parameters: one file may hold only moments."""
  for file in (step / "state").rglob("d/*"):
    _cut_in_half(file)


def _cut_in_half(file):
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _zeros(step):
  file = largest(step)
  file.write_bytes(bytes(file.stat().st_size))


def _zeros_at_the_end(step):
  """What a file system may leave of a file that was not written out before a power cut."""
  file = largest(step)
  content, size = file.read_bytes(), file.stat().st_size
  file.write_bytes(content[: size // 2] + bytes(size - size // 2))


def _replace_text(file, before, after):
  text = file.read_text()
  assert before in text
  file.write_text(text.replace(before, after, 1))


# {what happened: (what does it to the folder of a step, words of the reason that is shown)}.
DAMAGES = {
  "an array file is cut in half": (_cut, "state/ cannot be read"),
  "every array file is cut in half": (cut_every_array, "state/ cannot be read"),
  "an array file is all zeros": (_zeros, "state/ cannot be read"),
  "an array file ends in zeros": (_zeros_at_the_end, "state/"),
  "an array file is deleted": (lambda step: largest(step).unlink(), "state/ cannot be read"),
  "one number is another one": (
    change_a_number,
    "1 of 37 arrays in state/ are not what was saved: params/token_embed/embedding",
  ),
  "the list of arrays is a list": (
    lambda step: (step / "state/_METADATA").write_text("[]"),
    "state/ cannot be read",
  ),
  "the list of arrays is broken": (
    lambda step: (step / "state/_METADATA").write_text("{"),
    "state/ cannot be read",
  ),
  "the manifest is deleted": (
    lambda step: (step / "state/manifest.ocdbt").unlink(),
    "state/ cannot be read",
  ),
  "no state": (lambda step: shutil.rmtree(step / "state"), "state/ is missing"),
  "a state without files": (
    lambda step: [shutil.rmtree(step / "state"), (step / "state").mkdir()],
    "state/ is empty",
  ),
  "the state of another step": (copy_from_step_2("state"), "state/ is of step 2"),
  "no place in the data": (lambda step: shutil.rmtree(step / "data"), "data/ is missing"),
  "a stream is deleted": (
    lambda step: (step / "data/stream_00000").unlink(),
    "data/stream_00000 is missing",
  ),
  "a stream is cut": (
    lambda step: (step / "data/stream_00000").write_bytes(b""),
    "data/stream_00000, a place in the data, is not the one",
  ),
  "the place in the data of another step": (
    copy_from_step_2("data"),
    "data/stream_00000, a place in the data, is not the one",
  ),
  "a stream too many": (
    lambda step: (step / "data/stream_00001").write_bytes(b"1"),
    "data/stream_00001 was not saved with it",
  ),
  "no description of the run": (lambda step: shutil.rmtree(step / "run"), "run/ is missing"),
  "the description is deleted": (lambda step: (step / "run/metadata").unlink(), "run/"),
  "the description is broken": (
    lambda step: (step / "run/metadata").write_text("{"),
    "run/metadata cannot be read",
  ),
  "the description is a list": (
    lambda step: (step / "run/metadata").write_text("[]"),
    "run/metadata is not what a run saves",
  ),
  "the description of another step": (
    copy_from_step_2("run"),
    "it is the checkpoint of step 2 under another name",
  ),
  "another number in the description": (
    lambda step: _replace_text(step / "run/metadata", '"seed": 0', '"seed": 1'),
    "run/metadata is not what was saved",
  ),
  "the digests have another name": (
    lambda step: _replace_text(step / "run/metadata", '"digests"', '"dagests"'),
    "run/metadata is not what a run saves",
  ),
  "another step as a whole": (
    copy_from_step_2("state", "data", "run"),
    "it is the checkpoint of step 2 under another name",
  ),
  "an empty folder": (
    lambda step: [shutil.rmtree(step), step.mkdir()],
    "its folder is empty",
  ),
}
