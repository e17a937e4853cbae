"""Scripts, Dockerfile, SkyPilot's task: run, and checked by linters where .[dev] is installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from launch.clusters import restarts

ROOT = Path(__file__).parents[3]
CLUSTERS = ROOT / "launch/clusters"


def lint(program, *arguments):
  path = shutil.which(program) or shutil.which(program, path=Path(sys.executable).parent)
  if path is None:
    pytest.skip(f"{program} is not installed")
  done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stdout + done.stderr


def test_scripts(tmp_path):
  task = yaml.safe_load((CLUSTERS / "skypilot.yaml").read_text())
  parts = [tmp_path / f"{part}.sh" for part in ("setup", "run")]
  for part in parts:
    part.write_text(f"#!/usr/bin/env bash\n{task[part.stem]}")
  scripts = [*CLUSTERS.glob("*.sh"), CLUSTERS / "slurm.sbatch", ROOT / ".ci/run", *parts]
  lint("shellcheck", "--exclude=SC1091", *scripts)  # Files of virtual environments are not here.


def test_dockerfile():
  lint("hadolint", CLUSTERS / "docker/Dockerfile")
  text = (CLUSTERS / "docker/Dockerfile").read_text()
  assert re.search(r"^USER 1000$", text, re.MULTILINE)
  copied = [
    name
    for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE)
    for name in line.split()
  ]
  sent = (CLUSTERS / "docker/Dockerfile.dockerignore").read_text().splitlines()
  for name in copied:
    assert f"!{name}" in sent or name.startswith("launch/"), name
    assert (ROOT / name.replace("$ACCELERATOR", "cuda")).exists()


@pytest.mark.parametrize("accelerator", ["cuda", "tpu"])
def test_pinned_versions_are_those_that_the_package_takes(accelerator):
  lines = (CLUSTERS / f"docker/requirements-{accelerator}.txt").read_text().splitlines()
  pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
  project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
  extras = project["optional-dependencies"]
  for text in (*project["dependencies"], *extras[accelerator], *extras["gcs"]):
    required = Requirement(text)
    if required.marker is None or required.marker.evaluate({"python_version": "3.12"}):
      version = pinned[canonicalize_name(required.name)]
      assert required.specifier.contains(version, prereleases=True), (text, version)


def test_skypilot_starts_again_what_launch_cloud_does():
  task = yaml.safe_load((CLUSTERS / "skypilot.yaml").read_text())
  codes = task["resources"]["job_recovery"]["recover_on_exit_codes"]
  # What ends a process from outside or by a fault: HUP, QUIT, ILL, ABRT, BUS and so on.
  signals = (1, 3, 4, 6, 7, 8, 9, 11, 15)
  assert codes == [75, 76, *(128 + number for number in signals)]
  assert all(restarts.attempts_after(code) == restarts.MOST_ATTEMPTS for code in codes)


def test_skypilot_starts_one_process_on_each_node(tmp_path):
  task = yaml.safe_load((CLUSTERS / "skypilot.yaml").read_text())
  python = tmp_path / ".venv/bin/python"
  python.parent.mkdir(parents=True)
  python.write_text(
    '#!/usr/bin/env bash\nprintf "%s\\n" "$JAX_COORDINATOR_ADDRESS" "$JAX_NUM_PROCESSES" '
    '"$JAX_PROCESS_ID" "$@"\n'
  )
  python.chmod(0o755)
  environ = {
    "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NODE_RANK": "1",
    "FLAGS": "--gin_file='my run.gin' --gin.MODEL_DIR=\"'s3://b/x'\"",
  }
  done = subprocess.run(
    ["bash", "-euc", task["run"]],
    cwd=tmp_path,
    env=os.environ | environ,
    capture_output=True,
    text=True,
    timeout=60,
  )
  lines = done.stdout.splitlines()
  assert lines[:3] == ["10.0.0.1:12355", "2", "1"]
  assert lines[3:5] == ["-m", "launch.train"]
  assert lines[-2:] == ["--gin_file=my run.gin", "--gin.MODEL_DIR='s3://b/x'"]
