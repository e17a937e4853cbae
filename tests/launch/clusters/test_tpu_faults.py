"""What launch.cloud does when the cloud has no room, or gcloud itself fails."""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from launch import cloud as cloud_command
from launch.clusters import programs, queued_slices, tpu
from t5x_style.errors import UserError

PLACE = ("my-slice", "--zone=us-west4-a")
RUN = ("tpu", "run", *PLACE, "--topology=v5e:4x4", "--spot")
TRAIN = ("--", "--gin_file=my_run.gin")
DESCRIBE = "queued-resources describe"


def lines(cloud, name, *words):
  (cloud.folder / name).write_text("".join(f"{word}\n" for word in words))


@pytest.mark.parametrize("end", ["FAILED", "SUSPENDED"])
def test_a_request_without_room_ends_the_command(cloud, end):
  lines(cloud, "states", "WAITING_FOR_RESOURCES", end)
  with pytest.raises(UserError, match=f"my-slice is {end} and never was ACTIVE"):
    cloud.run(*RUN, "--valid_until=6h", *TRAIN)
  assert len(cloud.calls("queued-resources", "create")) == 1


def test_an_error_of_describe_does_not_mean_that_nothing_exists(cloud):
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  lines(cloud, "fails", DESCRIBE)
  with pytest.raises(UserError, match="no network"):
    cloud.run(*RUN, *TRAIN)
  assert len(cloud.calls("queued-resources", "create")) == 1
  lines(cloud, "fails", DESCRIBE)
  with pytest.raises(UserError, match="no network"):
    cloud.run("tpu", "status", *PLACE)


def test_a_short_failure_of_the_network_does_not_end_the_command(cloud, capsys):
  lines(cloud, "states", *["WAITING_FOR_RESOURCES"] * 3, "ACTIVE")
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  lines(cloud, "fails", "tpu-vm scp", DESCRIBE, DESCRIBE)
  assert cloud.run(*RUN, *TRAIN) == 0
  assert capsys.readouterr().out.count("no network") == 3
  assert len(cloud.calls("queued-resources", "create")) == 1


@pytest.mark.parametrize("patience", [30, pytest.param(1, marks=pytest.mark.slow)])
def test_a_failure_of_describe_is_no_error_of_the_run(cloud, capsys, monkeypatch, patience):
  """When the names of the slices are asked for, to follow the run: with patience and without."""
  monkeypatch.setattr(queued_slices, "_POLLS_THAT_MAY_FAIL", patience)
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  follow, began = tpu.Tpu.follow, []

  def after_a_failure(job):
    if not began:
      lines(cloud, "fails", DESCRIBE)
    began.append(job)
    return follow(job)

  monkeypatch.setattr(tpu.Tpu, "follow", after_a_failure)
  assert cloud.run(*RUN, *TRAIN, codes=(0, 0)) == 0
  output = capsys.readouterr().out
  assert output.count("no network") == 1 and "Exit code 1" not in output
  assert output.count("the run is started again") == (1 if patience == 1 else 0)
  assert len(cloud.calls("tpu-vm", "scp")) == 1


def test_slices_that_are_being_taken_are_waited_for(cloud, capsys):
  lines(cloud, "states", "SUSPENDING", "SUSPENDING", "SUSPENDED")
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  (cloud.folder / "states").unlink()
  assert cloud.run(*RUN, *TRAIN) == 0
  output = capsys.readouterr().out
  assert "my-slice is SUSPENDING; waiting." in output
  assert "my-slice is SUSPENDED: it is deleted and queued again." in output


def test_nothing_is_installed_or_ended_where_the_host_cannot_be_asked(cloud, capsys):
  assert cloud.run(*RUN, *TRAIN) == 0
  lines(cloud, "fails", "tpu-vm ssh")
  before = len(cloud.calls())
  assert cloud.run(*RUN, *TRAIN) == 0
  actions = [words[1] for words in cloud.calls()[before:]]
  asked = actions.index("ssh")
  # It is asked again, beginning with the slices, before anything is copied.
  assert actions[asked + 1 : actions.index("scp")].count("ssh") == 1
  capsys.readouterr()
  lines(cloud, "fails", "tpu-vm ssh")
  cloud.run("tpu", "status", *PLACE)
  assert "the run there: cannot be asked" in capsys.readouterr().out


@pytest.mark.parametrize(("on_term", "code"), [("exit 75", "75"), ("", "137")])
def test_a_run_that_hangs_may_save_before_it_is_killed(tmp_path, on_term, code):
  script = tmp_path / "clone/launch/clusters/tpu_host.sh"
  python = tmp_path / "clone/.venv/bin/python"
  for path in (script, python):
    path.parent.mkdir(parents=True)
  script.write_text((Path(cloud_command.__file__).parent / "clusters/tpu_host.sh").read_text())
  python.write_text(
    f"#!/usr/bin/env bash\ntrap {on_term!r} TERM\ntouch ~/ready\nwhile true; do sleep .05; done\n"
  )
  python.chmod(0o755)
  environ = os.environ | {"HOME": str(tmp_path), "PATIENCE_SECONDS": "1", "SAVE_SECONDS": "2"}

  def call(action):
    subprocess.run(["bash", script, action], env=environ, check=True, timeout=60)

  call("start")
  deadline = time.monotonic() + 30
  while not (tmp_path / "ready").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
  call("end")
  assert (tmp_path / ".t5x_style_run/code").read_text().strip() == code


def test_a_run_that_is_followed_again_repeats_no_lines(cloud):
  assert cloud.run(*RUN, *TRAIN, codes=(3,)) == 3
  said = []
  gcloud = programs.Programs(False, said.append)
  job = tpu.Tpu(gcloud, queued_slices.QueuedSlices(gcloud, "my-slice", "us-west4-a"))
  assert [job.follow(), job.follow()] == [3, 3]
  assert said.count("trains until 3") == 1


def test_an_installation_days_later_needs_no_old_temporary_file(cloud, tmp_path, monkeypatch):
  """systemd-tmpfiles and macOS remove what lies in the folder for temporary files for days."""
  temporary = tmp_path / "temporary"
  temporary.mkdir()
  monkeypatch.setattr(tempfile, "tempdir", str(temporary))
  lines(cloud, "states", "ACTIVE")
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  gcloud = programs.Programs(False)
  job = tpu.Tpu(gcloud, queued_slices.QueuedSlices(gcloud, "my-slice", "us-west4-a"))
  job.install()
  for left in temporary.iterdir():
    shutil.rmtree(left)
  job.install()
  assert len(cloud.calls("tpu-vm", "scp")) == 2


def test_logs_connect_again(cloud, capsys):
  assert cloud.run(*RUN, *TRAIN, codes=(3,)) == 3
  lines(cloud, "fails", "tpu-vm ssh", "tpu-vm ssh")
  capsys.readouterr()
  assert cloud.run("tpu", "logs", *PLACE) == 3
  assert capsys.readouterr().out.count("trains until 3") == 1
  assert cloud.run("tpu", "logs", *PLACE, "--dry_run") is None


def test_logs_without_a_run_say_so(cloud, capsys):
  lines(cloud, "states", "ACTIVE")
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  cloud.run("tpu", "install", *PLACE)
  assert cloud.run("tpu", "logs", *PLACE) == 1
  assert "No run was started on these hosts" in capsys.readouterr().out


@pytest.mark.slow
def test_a_host_that_cannot_be_installed_is_named_and_tried_a_few_times(cloud, capsys):
  (cloud.folder / "full.my-slice.1").touch()
  assert cloud.run(*RUN, *TRAIN) == 1
  output = capsys.readouterr().out
  host = os.uname().nodename
  assert output.count(f"No space left on device\n  install failed on the host {host}.") == 3
  assert "Exit code 1, 3 times without progress (no step was saved)" in output
  assert cloud.runs("my-slice.0") == []
  assert output.splitlines()[-1].startswith("my-slice stays, and is paid for. To delete it: ")
  # One that works again, or was replaced, is installed.
  (cloud.folder / "full.my-slice.1").unlink()
  assert cloud.run(*RUN, *TRAIN) == 0


def test_slices_that_are_deleted_while_they_are_queued_are_not_queued_again(cloud, capsys):
  lines(cloud, "states", "WAITING_FOR_RESOURCES", "WAITING_FOR_RESOURCES", "DELETING")
  assert cloud.run(*RUN, *TRAIN) == 130
  assert len(cloud.calls("queued-resources", "create")) == 1
  assert "my-slice was deleted meanwhile: the run is not started again." in capsys.readouterr().out


def test_a_request_that_stays_queued_is_said_to_cost_money_later(cloud, capsys):
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  assert capsys.readouterr().out.splitlines()[-1] == (
    "my-slice stays queued; once Google creates it, it is paid for. To delete it: "
    "python -m launch.cloud tpu delete my-slice --zone=us-west4-a"
  )


@pytest.mark.parametrize(
  ("action", "fails"),
  [("install", "tpu-vm scp"), ("stop", "tpu-vm ssh"), ("delete", "queued-resources delete")],
)
def test_an_action_that_fails_says_what_remains(cloud, capsys, action, fails):
  lines(cloud, "states", "ACTIVE")
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  capsys.readouterr()
  lines(cloud, "fails", fails)
  with pytest.raises(UserError):
    cloud.run("tpu", action, *PLACE)
  assert capsys.readouterr().out.splitlines()[-1].startswith("my-slice stays, and is paid for. ")


def test_a_creation_that_is_interrupted_says_what_may_remain(cloud, capsys, monkeypatch):
  def interrupted(self, *words):
    raise KeyboardInterrupt

  monkeypatch.setattr(programs.Programs, "run", interrupted)
  with pytest.raises(KeyboardInterrupt):
    cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  assert capsys.readouterr().out.startswith("my-slice stays queued; once Google creates it")
