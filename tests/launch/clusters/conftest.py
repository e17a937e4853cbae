"""A cloud on this machine: a fake gcloud, and hosts on which an installation takes no time."""

import json
import os
import sys
from pathlib import Path

import pytest

from launch import cloud as command
from launch.clusters import queued_slices, restarts, tpu

# Instead of pip, uv and Python on a host. The run records its arguments, and ends with the first
# code of `codes`; a word there instead of a code is what happens first, and 75@1,200 is a run that
# resumes from step 1,200.
PIP = """#!/usr/bin/env bash
mkdir -p ~/.local/bin
cp "$FAKE_CLOUD/bin/uv" ~/.local/bin/uv
"""
UV = """#!/usr/bin/env bash
if [[ $1 == pip && -e $FAKE_CLOUD/full.${HOME##*/} ]]; then
  echo "No space left on device" >&2
  exit 28
fi
mkdir -p .venv/bin
cp "$FAKE_CLOUD/bin/host_python" .venv/bin/python
"""
HOST_PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>~/runs
[[ $HOME == */my-slice*.0 ]] || exit 0  # The first host decides.
[[ $HOME == *-1.0 ]] && exit 0
exec 8>"$FAKE_CLOUD/codes.lock" && flock 8
code=$(head -1 "$FAKE_CLOUD/codes")
sed -i 1d "$FAKE_CLOUD/codes"
exec 8>&-
wait_while() { while "$@"; do sleep .02; done; }
followed_less_than() { (($(grep -c " follow " "$FAKE_CLOUD/calls.jsonl") < $1)); }
if [[ $code == *@* ]]; then echo "Resuming from step ${code#*@}."; fi
echo "trains until $code"
case ${code%@*} in
  preempt | delete) touch "$FAKE_CLOUD/${code%@*}"; wait_while true ;;
  break) touch "$FAKE_CLOUD/break"; wait_while followed_less_than 2 ;;
  retry) touch "$FAKE_CLOUD/retry"; wait_while test -e "$FAKE_CLOUD/retry"; sleep .2 ;;
  interrupt) trap 'exit 130' INT; wait_while true ;;
  *) exit "${code%@*}" ;;
esac
"""


class Cloud:
  """Runs launch.cloud beside the fake; `codes` are how the runs end."""

  def __init__(self, folder: Path):
    self.folder = folder

  def run(self, *words: str, codes=(0,)) -> int | None:
    (self.folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    return command.main(["launch.cloud", *words])

  def calls(self, *beginning: str) -> list[list[str]]:
    """The calls of gcloud that begin with these words after `compute tpus`."""
    path = self.folder / "calls.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line)[2:] for line in lines]
    return [words for words in found if words[: len(beginning)] == list(beginning)]

  def runs(self, host: str) -> list[str]:
    """The arguments of Python in each run on a host."""
    path = self.folder / "hosts" / host / "runs"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="session")
def packed():
  """What is copied to hosts, packed once for all tests."""
  return tpu._pack()


@pytest.fixture
def cloud(tmp_path, monkeypatch, packed):
  folder = tmp_path / "cloud"
  (folder / "bin").mkdir(parents=True)
  gcloud = (Path(__file__).parent / "fake_gcloud.py").read_text()
  programs = {"gcloud": f"#!{sys.executable} -SE\n{gcloud}", "python3": PIP}
  for name, text in (programs | {"uv": UV, "host_python": HOST_PYTHON}).items():
    (folder / "bin" / name).write_text(text)
    (folder / "bin" / name).chmod(0o755)
  monkeypatch.setenv("FAKE_CLOUD", str(folder))
  monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
  monkeypatch.setattr(queued_slices, "_POLL_SECONDS", 0.05)
  monkeypatch.setattr(tpu, "_pack", lambda: packed)
  monkeypatch.setattr(restarts, "_PAUSE_SECONDS", 0.0)
  return Cloud(folder)
