"""The pages of docs/clusters/, followed to the letter with programs that only play a cluster."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import yaml

from launch import cloud as command

ROOT = Path(__file__).parents[3]


def lines(page, beginning):
  """The commands of a page that begin so, in their order."""
  text = (ROOT / "docs/clusters" / page).read_text()
  blocks = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
  return [line for line in blocks.splitlines() if line.startswith(beginning)]


def test_tpu_vms_with_a_preemption_in_the_middle(cloud, capsys):
  followed = [shlex.split(line)[3:] for line in lines("tpu_vm.md", "python -m launch.cloud ")]
  assert [words[1] for words in followed] == ["run", "status", "logs", "stop", "delete"]
  for words in followed:
    code = cloud.run(*words, codes=("preempt", 0))
    assert not code, words
    if words[1] == "run":
      model = "--gin.MODEL_DIR='gs://my-bucket/my_run'"
      assert cloud.runs("my-slice.1") == [f"-m launch.train --gin_file=my_run.gin {model}"]
  assert not (cloud.folder / "queue.json").exists()
  assert len(cloud.calls("queued-resources", "create")) == 2
  assert "the run there: ended with exit code 0" in capsys.readouterr().out


def test_kubernetes(capsys):
  (line,) = lines("gke.md", "python -m launch.cloud ")
  words, _, file = line.rpartition(" > ")
  command.main(["launch.cloud", *shlex.split(words)[3:]])
  whole = yaml.safe_load(capsys.readouterr().out)
  (job,) = whole["spec"]["replicatedJobs"]
  kubectl = "\n".join(lines("gke.md", "kubectl "))
  assert f"apply -f {file}\n" in kubectl and f"delete -f {file}" in kubectl
  # JobSets name their jobs JOBSET-JOB-REPLICA.
  assert f"job/{whole['metadata']['name']}-{job['name']}-0" in kubectl
  container = job["template"]["spec"]["template"]["spec"]["containers"][0]
  (push,) = lines("gke.md", "docker push ")
  assert push.split()[-1] == container["image"]
  (pool,) = lines("gke.md", "gcloud container node-pools ")
  spec = job["template"]["spec"]
  selector = spec["template"]["spec"]["nodeSelector"]
  assert f"--tpu-topology={selector['cloud.google.com/gke-tpu-topology']} " in pool
  assert f"--num-nodes={spec['parallelism']} " in pool


def test_slurm(tmp_path):
  """sbatch runs the script, with its flags before it; the job is preempted and queued again."""
  (line,) = lines("slurm.md", "sbatch ")
  fakes = {
    "sbatch": 'while [[ $1 == --* ]]; do shift; done\nexec bash "$@"\n',
    "srun": 'printf "%s\\n" "$@" >calls\nexit 75\n',
    "scontrol": 'echo "$*" >>calls\n',
  }
  for name, text in fakes.items():
    (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}")
    (tmp_path / name).chmod(0o755)
  (tmp_path / "launch").symlink_to(ROOT / "launch")
  environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
  done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=os.environ | environ, timeout=60)
  assert done.returncode == 0
  assert (tmp_path / "calls").read_text().splitlines()[-3:] == [
    "--gin_file=my_run.gin",
    "--gin.MODEL_DIR='/shared/my_run'",
    "requeue 7",
  ]


def test_what_the_pages_name_exists():
  for page in (ROOT / "docs/clusters").glob("*.md"):
    for path in re.findall(r"\blaunch/[\w/.]+\b", page.read_text()):
      assert (ROOT / path).exists(), (page.name, path)
