"""TPU slices from nothing to a run and back to nothing, with a fake gcloud and real shells."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from launch.clusters import restarts, tpu
from t5x_style.errors import UserError
from tests import training_jobs

PLACE = ("my-slice", "--zone=us-west4-a")
RUN = ("tpu", "run", *PLACE, "--topology=v5e:4x4", "--spot")
TRAIN = ("--gin_file=my run.gin", "--gin.MODEL_DIR='gs://b/it is \"$HOME\" & `x`'")
TRAINED = f"-m launch.train {' '.join(TRAIN)}"


@pytest.mark.slow
def test_from_nothing_to_a_run_and_back(cloud, capsys):
  assert cloud.run(*RUN, "--", *TRAIN) == 0
  (created,) = cloud.calls("queued-resources", "create")
  assert created[2:] == [
    *PLACE,
    "--node-id=my-slice",
    "--accelerator-type=v5litepod-16",
    "--runtime-version=v2-alpha-tpuv5-lite",
    "--spot",
  ]
  assert [cloud.runs(f"my-slice.{i}") for i in range(2)] == [[TRAINED], [TRAINED]]
  output = capsys.readouterr().out
  assert "my-slice is WAITING_FOR_RESOURCES; waiting." in output
  assert output.endswith(
    "trains until 0\nThe run ended with exit code 0.\n"
    "my-slice stays, and is paid for. To delete it: "
    "python -m launch.cloud tpu delete my-slice --zone=us-west4-a\n"
  )
  cloud.run("tpu", "status", *PLACE)
  states = ["my-slice: ACTIVE", "the run there: ended with exit code 0; it began at "]
  told = capsys.readouterr().out.splitlines()
  assert len(told) == 2 and all(map(str.startswith, told, states))
  cloud.run("tpu", "delete", *PLACE)
  assert not (cloud.folder / "hosts").exists()
  with pytest.raises(UserError, match="in --zone=us-west4-a: nothing is deleted"):
    cloud.run("tpu", "delete", *PLACE)
  capsys.readouterr()
  cloud.run("tpu", "status", *PLACE)
  assert capsys.readouterr().out == "my-slice: does not exist\n"


@pytest.mark.slow
def test_several_slices(cloud):
  assert cloud.run(*RUN, "--slices=2", "--project=my-project", "--", *TRAIN) == 0
  (created,) = cloud.calls("queued-resources", "create")
  assert "--node-count=2" in created and "--project=my-project" in created
  hosts = [f"my-slice-{i}.{j}" for i in range(2) for j in range(2)]
  assert [cloud.runs(host) for host in hosts] == [[TRAINED]] * 4


@pytest.mark.slow
def test_a_run_is_started_again_by_its_exit_code(cloud, capsys):
  """Without a new installation, so that the code of the run stays the same."""
  assert cloud.run(*RUN, "--", *TRAIN, codes=(75, 137, 76, 3)) == 3
  assert cloud.runs("my-slice.0") == [TRAINED] * 4
  assert len(cloud.calls("tpu-vm", "scp")) == 1
  assert capsys.readouterr().out.count("the run is started again.") == 3


@pytest.mark.slow
def test_a_preempted_slice_is_queued_again(cloud, capsys):
  assert cloud.run(*RUN, "--", *TRAIN, codes=("preempt", 0)) == 0
  assert len(cloud.calls("queued-resources", "create")) == 2
  assert len(cloud.calls("queued-resources", "delete")) == 1
  assert cloud.runs("my-slice.0") == [TRAINED]  # on the new host
  assert "my-slice is SUSPENDED: it is deleted and queued again." in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_started_again_for_as_long_as_it_makes_progress(cloud, capsys, monkeypatch):
  monkeypatch.setattr(restarts, "MOST_ATTEMPTS", 3)
  codes = ("75", "preempt@1,000", "76@1,200", *["75@1,201"] * 3, "0@1,250")
  assert cloud.run(*RUN, "--", *TRAIN, codes=codes) == 75
  output = capsys.readouterr().out
  assert "3 times without progress (no step after 1,201 was saved)" in output
  assert output.count("Resuming from step 1,201.") == 3
  assert output.splitlines()[-1].startswith("my-slice stays, and is paid for.")


@pytest.mark.slow
@pytest.mark.parametrize(("how", "said"), [("break", 1), ("retry", 0)])
def test_a_run_continues_while_the_connection_is_broken(cloud, capsys, how, said):
  """Also where gcloud connects again by itself, and prints all lines again."""
  assert cloud.run(*RUN, "--", *TRAIN, codes=(how,)) == 0
  assert cloud.runs("my-slice.0") == [TRAINED]
  output = capsys.readouterr().out
  assert output.count("The connection broke; the run continues") == said
  assert output.count(f"trains until {how}") == 1


@pytest.mark.slow
def test_slices_that_somebody_deletes_are_not_queued_again(cloud, capsys):
  assert cloud.run(*RUN, "--", *TRAIN, codes=("delete", 0)) == 130
  assert len(cloud.calls("queued-resources", "create")) == 1
  output = capsys.readouterr().out
  assert output.endswith("my-slice was deleted meanwhile: the run is not started again.\n")


@pytest.mark.slow
def test_logs_continue_after_a_preemption(cloud, capsys, monkeypatch):
  monkeypatch.setattr(tpu, "_POLLS_WITHOUT_SLICES", 1000)  # They are short here.
  results = {}
  text = ""

  def in_background(name, *words, **options):
    thread = threading.Thread(target=lambda: results.update({name: cloud.run(*words, **options)}))
    thread.start()
    return thread

  def until(count):
    nonlocal text
    deadline = time.monotonic() + 60
    while text.count("trains until interrupt") < count:
      assert time.monotonic() < deadline, text
      time.sleep(0.05)
      text += capsys.readouterr().out

  run = in_background("run", *RUN, "--", *TRAIN, codes=("interrupt", 3))
  until(1)
  logs = in_background("logs", "tpu", "logs", *PLACE, codes=(3,))
  until(2)
  (cloud.folder / "preempt").touch()
  for thread in (run, logs):
    thread.join(60)
  assert results == {"run": 3, "logs": 3}
  text += capsys.readouterr().out
  assert text.count("trains until 3") == 2
  assert text.count("It is followed again once `tpu run` has started it again") == 1


@pytest.mark.slow
def test_ctrl_c_says_what_remains_and_what_it_costs(cloud):
  (cloud.folder / "states").write_text("ACTIVE\n")
  (cloud.folder / "codes").write_text("interrupt\n")
  process = subprocess.Popen(
    [sys.executable, "-m", "launch.cloud", *RUN, "--", *TRAIN],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    start_new_session=True,
  )
  for line in process.stdout:
    if line == "trains until interrupt\n":
      break
  os.killpg(process.pid, signal.SIGINT)
  assert process.stdout.read().splitlines()[-2:] == [
    "A run that was started continues; the same command follows it again.",
    "my-slice stays, and is paid for. To delete it: "
    "python -m launch.cloud tpu delete my-slice --zone=us-west4-a",
  ]
  assert process.wait(60) == 130
  cloud.run("tpu", "stop", *PLACE)  # It was under way.
  training_jobs.until((cloud.folder / "hosts/my-slice.0/.t5x_style_run/code").exists)


@pytest.mark.slow
def test_stop_has_the_run_save_and_ends_the_command(cloud, capsys):
  results = []
  words = (*RUN, "--", *TRAIN)
  thread = threading.Thread(target=lambda: results.append(cloud.run(*words, codes=("interrupt",))))
  thread.start()
  deadline = time.monotonic() + 60
  while not cloud.calls("tpu-vm", "ssh") or "trains until" not in capsys.readouterr().out:
    assert time.monotonic() < deadline
    time.sleep(0.1)
  cloud.run("tpu", "stop", *PLACE)
  thread.join(60)
  assert results == [130]
  assert json.loads((cloud.folder / "queue.json").read_text())["states"] == ["ACTIVE"]


@pytest.mark.slow
@pytest.mark.parametrize("slices", [1, 2])
def test_a_dry_run_prints_what_is_called(cloud, capsys, slices):
  """With a domain-scoped project, and quotes and spaces in the names; polls are left out."""
  words = (*RUN, f"--slices={slices}", "--project=my.org:my-project", "--", *TRAIN)
  cloud.run(*RUN, "--dry_run", *words[len(RUN) :])
  printed = [shlex.split(line[2:])[3:] for line in capsys.readouterr().out.splitlines()]
  assert cloud.calls() == []
  cloud.run(*words)
  called = cloud.calls()

  def shown(calls):
    """Each command once; a temporary folder without its name."""
    return {tuple(re.sub("/.*launch-cloud-[^/]*/", "", word) for word in call) for call in calls}

  # Dry runs need not ask for the names of the slices.
  asked = {call for call in shown(called) if "--format=json" in call}
  assert shown(printed) == shown(called) - asked


def test_a_dry_run_calls_nothing(cloud, capsys):
  assert cloud.run(*RUN, "--dry_run", "--", *TRAIN) == 0
  assert cloud.calls() == []
  lines = capsys.readouterr().out.splitlines()
  assert all(line.startswith("$ gcloud compute tpus ") for line in lines)
  actions = [line.split()[4:6] for line in lines if "describe" not in line]
  assert [action for _, action in actions if action != "ssh"] == ["create", "scp"]


def test_what_does_not_exist_is_an_error(cloud):
  with pytest.raises(UserError, match="There is no queued resource 'my-slice': give --topology"):
    cloud.run("tpu", "run", *PLACE, "--", *TRAIN)
  with pytest.raises(UserError, match="There is no queued resource 'my-slice' in this zone"):
    cloud.run("tpu", "logs", *PLACE)
  with pytest.raises(UserError, match="There is no queued resource 'my-slice' in --zone"):
    cloud.run("tpu", "delete", *PLACE)


@pytest.mark.slow
def test_two_hosts_train_and_one_is_killed(cloud, capsys, monkeypatch):
  """Real runs of launch.train, from the installed copies of this clone, are one job."""
  python = cloud.folder / "bin/host_python"
  python.write_text(
    f'#!/usr/bin/env bash\nexport JAX_PROCESS_ID=${{HOME##*.}}\nexec {sys.executable} "$@"\n'
  )
  port = training_jobs.free_port()
  monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", f"localhost:{port}")
  for name, value in {"JAX_NUM_PROCESSES": "2", "JAX_PLATFORMS": "cpu"}.items():
    monkeypatch.setenv(name, value)
  monkeypatch.delenv("PYTHONPATH")
  gin, model = cloud.folder / "run.gin", cloud.folder / "its model"
  gin.write_text(training_jobs.GIN.replace("TRAIN_STEPS = 6", "TRAIN_STEPS = 150"))
  killed = []

  def kill():
    pid = cloud.folder / "hosts/my-slice.1/.t5x_style_run/pid"
    training_jobs.until(lambda: (model / "checkpoints/2").exists() and pid.exists())
    killed.append(int(pid.read_text()))
    os.kill(killed[0], signal.SIGKILL)

  thread = threading.Thread(target=kill)
  thread.start()
  flags = (f"--gin_file={gin}", f"--gin.MODEL_DIR='{model}'")
  assert cloud.run(*RUN, "--", *flags) == 0
  thread.join()
  output = capsys.readouterr().out
  assert killed and "Exit code 76: the run is started again." in output
  assert output.count("Preflight of 2 processes in ") == 2
  assert "Resuming from step " in output and "Trained 150 steps." in output
