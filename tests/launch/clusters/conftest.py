"""A cloud on this machine: a fake gcloud, and hosts on which an installation takes no time."""

import json
import os
import sys
from pathlib import Path

import pytest

from launch import cloud as command
from launch.clusters import restarts, tpu

# Instead of pip, uv and Python on a host. The run records its arguments, and ends with the first
# code of `codes`; a word there instead of a code is what happens first.
PIP = """#!/usr/bin/env bash
mkdir -p ~/.local/bin
cp "$FAKE_CLOUD/bin/uv" ~/.local/bin/uv
"""
UV = """#!/usr/bin/env bash
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
echo "trains until $code"
case $code in
  preempt) touch "$FAKE_CLOUD/preempt"; wait_while true ;;
  break) touch "$FAKE_CLOUD/break"; wait_while test -e "$FAKE_CLOUD/break"; sleep .2 ;;
  interrupt) trap 'exit 130' INT; wait_while true ;;
  *) exit "$code" ;;
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


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  folder = tmp_path / "cloud"
  (folder / "bin").mkdir(parents=True)
  gcloud = (Path(__file__).parent / "fake_gcloud.py").read_text()
  programs = {"gcloud": f"#!{sys.executable} -SE\n{gcloud}", "python3": PIP}
  for name, text in (programs | {"uv": UV, "host_python": HOST_PYTHON}).items():
    (folder / "bin" / name).write_text(text)
    (folder / "bin" / name).chmod(0o755)
  monkeypatch.setenv("FAKE_CLOUD", str(folder))
  monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
  monkeypatch.setattr(tpu, "_POLL_SECONDS", 0.05)
  monkeypatch.setattr(restarts, "_PAUSE_SECONDS", 0.0)
  return Cloud(folder)
