"""The pages of docs/clusters/, followed to the letter with programs that only play a cluster."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from launch import cloud as command

ROOT = Path(__file__).parents[3]
PAGES = [path for path in sorted((ROOT / "docs/clusters").glob("*.md")) if path.stem != "index"]
# Each records how it is called: its arguments, one in a line, after a line with its name.
RECORDER = """#!/usr/bin/env bash
printf '%s\\0' "${0##*/}" "$@" >>"$RECORD/calls" && printf '\\n' >>"$RECORD/calls"
case ${0##*/} in
  git) mkdir -p "${@: -1}" ;;
  python3.12) mkdir -p "${@: -1}/bin" && touch "${@: -1}/bin/activate" ;;
  python) [[ -e $RECORD/codes ]] || exit 0
    code=$(head -1 "$RECORD/codes") && sed -i 1d "$RECORD/codes" && exit "$code" ;;
esac
"""
PROGRAMS = (
  *("docker", "gcloud", "git", "kubectl", "pip", "python", "python3.12", "rm", "sbatch"),
  *("scancel", "sky", "sleep", "squeue", "tail"),
)


def blocks(page):
  """The commands of a page, as a reader copies them."""
  text = (ROOT / "docs/clusters" / page).read_text()
  return "".join(re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE))


def follow(script, folder, codes=()):
  """Carries out commands with programs that only record their calls, and returns these."""
  (folder / "bin").mkdir()
  for name in PROGRAMS:
    (folder / "bin" / name).write_text(RECORDER)
    (folder / "bin" / name).chmod(0o755)
  if codes:
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
  (folder / "work").mkdir()
  subprocess.run(
    ["/bin/bash", "-euo", "pipefail", "-c", script],
    cwd=folder / "work",
    env={"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "RECORD": str(folder)},
    check=True,
    timeout=60,
  )
  return [line.split("\0")[:-1] for line in (folder / "calls").read_text().splitlines()]


def lines(page, beginning):
  """The commands of a page that begin so, in their order."""
  return [line for line in blocks(page).splitlines() if line.startswith(beginning)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_command_of_a_page_in_order(path, tmp_path):
  """Also for names with spaces and quotes: a shell gives each program what gin reads."""
  script = blocks(path.name)
  # What comes before a redirection, an assignment or a loop is no program.
  called = re.sub(r"^(while |\w+=\$\()", "", script, flags=re.MULTILINE)
  expected = [line.split()[0] for line in called.splitlines()]
  expected = [name for name in expected if name not in (".", "cd")]
  named = script.replace("my_run'", "it is my \\`run\\`, 100 %'")
  calls = follow(named, tmp_path)
  assert [name for name, *_ in calls if name != "sleep"] == expected
  values = [word for _, *words in calls for word in words if word.startswith("--gin.")]
  for flags in [word for _, *words in calls for word in words if word.startswith("--env=FLAGS=")]:
    values += shlex.split(flags.partition("FLAGS=")[2])[1:]
  for value in values:
    assert ast.literal_eval(value.partition("=")[2]).endswith("it is my `run`, 100 %")
  assert values or path.stem == "gpu_machines"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_begins_with_its_price_and_ends_with_nothing(path):
  assert re.findall("^## (.*)$", path.read_text(), re.MULTILINE)[-1] == "Back to nothing"
  prices = lines(path.name, "python -m launch.precompile ")
  assert len(prices) == 1 and re.search(r" --price_per_chip_hour=[\d.]+$", prices[0])
  bought = re.search(
    "^(gcloud .* create|sky|sbatch|python -m launch.train)", blocks(path.name), re.M
  )
  assert path.stem == "tpu_vm" or blocks(path.name).index(prices[0]) < bought.start()


@pytest.mark.parametrize("path", [x for x in PAGES if x.stem != "slurm"], ids=lambda x: x.stem)
def test_a_page_says_where_its_installation_needs_linux(path):
  """Other systems have no wheels of libtpu and CUDA; SLURM's login node has Linux."""
  assert re.search(r"^pip install -e '\.\[(tpu|cuda)\]'$", blocks(path.name), re.MULTILINE)
  assert re.search(r"\sLinux:\s", path.read_text())


def test_the_loop_for_gpu_machines_starts_a_run_again_by_its_exit_code(tmp_path):
  (loop,) = lines("gpu_machines.md", "while ")
  calls = follow(loop, tmp_path, codes=(75, 76, 137, 139, 0, 75))
  assert [name for name, *_ in calls] == ["python", *["sleep", "python"] * 4]
  for code in (1, 2, 3, 4, 130, 141):
    folder = tmp_path / str(code)
    folder.mkdir()
    assert len(follow(loop, folder, codes=(code, 75))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
  "path", [x for x in PAGES if "gcloud " in x.read_text()], ids=lambda x: x.stem
)
def test_gcloud_knows_the_commands(path, tmp_path):
  """By gcloud's own linter of commands, where gcloud is installed; it calls nothing."""
  gcloud = shutil.which("gcloud")
  if gcloud is None:
    pytest.skip("gcloud is not installed")
  calls = [words for words in follow(blocks(path.name), tmp_path) if words[0] == "gcloud"]
  for words in calls:
    check_by_gcloud(gcloud, words, tmp_path)


@pytest.mark.slow
def test_gcloud_knows_what_launch_cloud_calls(tmp_path, capsys):
  gcloud = shutil.which("gcloud")
  if gcloud is None:
    pytest.skip("gcloud is not installed")
  place = ["my-slice", "--zone=us-west4-a", "--project=my.org:my-project", "--dry_run"]
  create = ["--topology=v6e:4x4", "--slices=2", "--reserved", "--valid_until=6h"]
  model = "--gin.MODEL_DIR='gs://b/it is \"$HOME\" & `x`'"
  command.main(["cloud", "tpu", "run", *place, *create, "--", "--gin_file=my run.gin", model])
  command.main(["cloud", "tpu", "delete", *place])
  printed = capsys.readouterr().out.splitlines()
  assert len(printed) > 8
  for line in dict.fromkeys(printed):
    check_by_gcloud(gcloud, shlex.split(line[2:]), tmp_path)


def check_by_gcloud(gcloud, words, folder):
  words = sorted(words, key=lambda word: word.startswith("-"))  # It wants them in this order.
  words = ["meta", "lint-gcloud-commands", f"--command-string={shlex.join(words)}"]
  environ = os.environ | {"CLOUDSDK_CONFIG": str(folder / "config")}
  done = subprocess.run([gcloud, *words], env=environ, capture_output=True, text=True, timeout=120)
  (found,) = json.loads(done.stdout)
  assert found["success"], found


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
  pool, gpus = lines("gke.md", "gcloud container node-pools ")
  assert "--num-nodes=2 " in gpus  # for --topology=h100:2x8
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
