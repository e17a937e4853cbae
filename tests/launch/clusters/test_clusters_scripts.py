"""The script for SLURM queues a job again exactly where its exit code says so; wheels to carry."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

CLUSTERS = Path(__file__).parents[3] / "launch/clusters"
AGAIN = (75, 76, 137, 143)
NOT_AGAIN = (0, 1, 2, 3, 4, 65, 130, 141)


@pytest.fixture
def run(tmp_path):
  """Runs a script with programs of the cluster that only record how they are called."""

  def run(script, *arguments, codes, stdout=subprocess.PIPE, **environ):
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    for name in ("srun", "scontrol", "gcloud", "python3"):
      program = tmp_path / name
      program.write_text(
        '#!/usr/bin/env bash\nprintf "%s\\n" "${0##*/} $*" >> calls\n'
        'if [[ $0 != */scontrol ]]; then code=$(head -1 codes); sed -i 1d codes; exit "$code"; fi\n'
      )
      program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
      ["bash", CLUSTERS / script, *arguments],
      cwd=tmp_path,
      env=os.environ | {"PATH": path, "SLURM_JOB_ID": "7"} | environ,
      stdout=stdout,
      stderr=subprocess.PIPE,
      text=True,
      timeout=60,
    )
    return done.returncode, (tmp_path / "calls").read_text().splitlines(), done.stderr

  return run


@pytest.mark.parametrize("code", [*AGAIN, *NOT_AGAIN])
def test_slurm_queues_the_job_again(run, code):
  got, calls, _ = run("slurm.sbatch", "--gin_file=a b.gin", codes=[code])
  assert calls[0].endswith("python -m launch.train --grace_seconds=110 --gin_file=a b.gin")
  assert calls[1:] == (["scontrol requeue 7"] if code in AGAIN else [])
  assert got == (0 if code in AGAIN else code)


def test_slurm_does_not_do_so_for_ever(run):
  got, calls, errors = run("slurm.sbatch", codes=[75], SLURM_RESTART_COUNT="20")
  assert (got, len(calls)) == (75, 1)
  assert "20 restarts without progress: the job is not queued again" in errors


@pytest.mark.parametrize(("steps", "again"), [(["900", "1,200"], True), (["1,200", "900"], False)])
def test_slurm_counts_the_restarts_without_progress(run, tmp_path, steps, again):
  """20 or more count, if the newest step did not grow in them."""
  output = tmp_path / "out.txt"
  starts = [f"Resuming from step {step}.\nQueued again after exit code 75.\n" for step in steps]
  output.write_text(starts[0] * 2 + starts[1] * 19)
  with output.open("a") as stdout:
    options = {"SLURM_RESTART_COUNT": "21", "stdout": stdout}
    got, calls, _ = run("slurm.sbatch", codes=[76], **options)
  assert got == (0 if again else 76)
  assert calls[1:] == (["scontrol requeue 7"] if again else [])
  lines = output.read_text().splitlines()
  assert (lines[-1] == "Queued again after exit code 76.") == again


def test_slurm_counts_no_restarts_of_earlier_jobs(run, tmp_path):
  """Which are in the same file, where --output has a fixed name."""
  output = tmp_path / "out.txt"
  output.write_text("Resuming from step 9,000.\n" + "Queued again after exit code 75.\n" * 25)
  again = "Queued again after exit code 76."
  for restart in range(5):
    with output.open("a") as stdout:
      if restart == 2:
        stdout.write("Resuming from step 100.\n")
        stdout.flush()
      options = {"SLURM_RESTART_COUNT": str(restart), "MOST_RESTARTS": "2", "stdout": stdout}
      got, _, _ = run("slurm.sbatch", codes=[76], **options)
    assert got == (76 if restart == 4 else 0)
  printed = output.read_text().splitlines()[26:]
  assert printed == ["Job 7 begins.", again, again, "Resuming from step 100.", again, again]


def test_slurm_counts_all_restarts_where_the_output_cannot_be_read(run, tmp_path):
  awk = tmp_path / "awk"
  awk.write_text("#!/usr/bin/env bash\nexit 2\n")
  awk.chmod(0o755)
  with (tmp_path / "out.txt").open("a") as stdout:
    options = {"SLURM_RESTART_COUNT": "20", "stdout": stdout}
    got, calls, _ = run("slurm.sbatch", codes=[75], **options)
  assert (got, len(calls)) == (75, 1)


def test_wheels_are_those_of_the_requirements(run, tmp_path):
  """The package's requirements are named as in pyproject.toml, once, for the other machine."""
  project = tomllib.loads((CLUSTERS.parents[1] / "pyproject.toml").read_text())["project"]
  required = {re.match(r"[\w.-]+", line)[0] for line in project["dependencies"]}
  (tmp_path / "wheels").mkdir()
  got, calls, _ = run("carry_wheels.sh", "wheels", "3.13", codes=[0, 0], MORE="tokamax qwix")
  assert got == 0
  words = " ".join(calls).split()
  assert "--python-version 3.13" in calls[0] and "manylinux_2_28_x86_64" in words
  named = [re.split("[<>=]", word)[0] for word in words]
  chosen = [name for name in named if name in required]
  assert {"gin-config", "pydantic", "array_record", "grain"} <= set(chosen)
  assert len(chosen) == len(set(chosen)) and calls[1].endswith("tokamax qwix")
  heavy = {"tensorflow", "seqio", "jax", "tensorflow-text", "tensorflow-datasets"}
  assert not heavy & set(chosen)
