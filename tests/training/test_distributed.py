"""Several real processes on this machine are one job: the same run, one log, one end."""

import resource
import shutil
import signal
import socket
import time

import pytest

from tests.checkpoints.damages import change_a_number
from tests.training_jobs import Job, ended, finish, losses, saved, until


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  """The run that all others are compared with: one process, one device, no interruption."""
  folder = tmp_path_factory.mktemp("uninterrupted")
  (output,) = finish(folder)
  return folder, output


@pytest.mark.slow
def test_two_processes_train_as_one_and_one_resumes(tmp_path, uninterrupted):
  """All save, only one writes the logs, and the held-out tokens of both are counted."""
  first, second = finish(tmp_path, "--gin.TRAIN_STEPS=4", processes=2)
  whole = losses(uninterrupted[0])
  assert whole["train", 4] != whole["train", 1]
  got = losses(tmp_path)
  del got["validation", 4]  # Only this run ended there.
  assert got == {step: pytest.approx(whole[step], rel=1e-5) for step in got}
  assert list(got) == [("train", 1), ("train", 2), ("train", 3), ("validation", 3), ("train", 4)]
  assert "data=2 on 2 cpu devices in 2 processes" in first and "held-out" not in second
  assert "Trained 4 steps." in first
  assert "held-out text 1" in first  # Written by the first process alone.
  assert "Trained" not in second and "error" not in second
  baseline = [line for line in uninterrupted[1].splitlines() if "how frequent targets are" in line]
  assert baseline and baseline[0] in first
  assert len(list((tmp_path / "model/tensorboard/train").iterdir())) == 1

  finish(tmp_path)  # Six steps in all, from the checkpoint of two processes.
  assert losses(tmp_path).keys() - {("validation", 4)} == whole.keys()
  assert losses(tmp_path)["train", 6] == pytest.approx(whole["train", 6], rel=1e-5)
  assert losses(tmp_path)["validation", 6] == pytest.approx(whole["validation", 6], rel=1e-5)


@pytest.mark.slow
def test_a_run_moves_from_mesh_to_mesh(tmp_path, uninterrupted):
  """Each step is trained on another number of devices, processes and mesh axes."""
  for steps, processes, devices, mesh in (
    (1, 1, 8, {"fsdp": 8}),
    (2, 4, 1, {"data": 2, "fsdp": 2}),
    (3, 1, 2, {"tensor": 2}),
    (4, 2, 2, {"fsdp": 2, "tensor": 2}),
    (5, 1, 4, {"sequence": 2, "data": 2}),
    (6, 1, 1, {"data": 1}),
  ):
    arguments = (f"--gin.TRAIN_STEPS={steps}", f"--gin.MESH_SHAPE={mesh}", "--gin.SAVE_PERIOD=1")
    text = finish(tmp_path, *arguments, processes=processes, devices=devices)[0]
    assert steps == 1 or f"Resuming from step {steps - 1}." in text
  whole, got = losses(uninterrupted[0]), losses(tmp_path)
  for step in whole:
    assert got[step] == pytest.approx(whole[step], rel=1e-5), step


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 3])
def test_a_killed_process_ends_the_others_and_the_job_resumes(tmp_path, uninterrupted, killed):
  """Process 0 also coordinates the others, so they notice its end in another way."""
  job = Job(tmp_path, "--gin.TRAIN_STEPS=1000000", processes=4)
  until(lambda: len(saved(tmp_path)) > 1 or ended(job))
  job.processes[killed].send_signal(signal.SIGKILL)
  start = time.monotonic()
  codes = job.wait(timeout=60)
  assert time.monotonic() - start < 60
  for index, (code, text) in enumerate(zip(codes, job.texts(), strict=True)):
    assert code == (-signal.SIGKILL if index == killed else 76)
    if index != killed:
      # JAX's own threads may print more before the process has ended.
      last = [line for line in text.splitlines() if line.startswith("error: ")][-1]
      assert "died" in last, text
      assert "Start all processes again with the same commands" in last

  steps = saved(tmp_path)[-1] + 2
  finish(tmp_path, f"--gin.TRAIN_STEPS={steps}", processes=4)
  whole, got = losses(uninterrupted[0]), losses(tmp_path)
  assert got["train", 2] == pytest.approx(whole["train", 2], rel=1e-5)
  assert {step for split, step in got if split == "train"} == set(range(1, steps + 1))


@pytest.mark.slow
@pytest.mark.parametrize(
  ("setting", "words"),
  [
    ("SAVE_PERIOD=3", ["SAVE_PERIOD: 2 in process 0, 3 in process 1"]),
    ("train_config.TrainConfig.seed=1", ["TrainConfig.seed: 0 in process 0, 1 in process 1"]),
    ("MODEL_DIR='/dev/null/x'", ["MODEL_DIR: ", "'/dev/null/x' in process 1"]),
    ("BATCH_SIZE=-1", ["Process 1 of this job on ", " has ended: BATCH_SIZE"]),
  ],
)
def test_processes_with_different_settings_are_refused(tmp_path, setting, words):
  """All of them say what differs, or what one of them has wrong, before anything is written."""
  job = Job(tmp_path, processes=2, only_last=[f"--gin.{setting}"])
  assert job.wait(120) == [2, 2], job.texts()
  first = job.texts()[0]
  assert all(word in first for word in words), first
  assert "Traceback" not in "".join(job.texts())
  assert not (tmp_path / "model").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path, number):
  job = Job(tmp_path, "--gin.TRAIN_STEPS=1000000", "--gin.SAVE_PERIOD=1000000", processes=2)
  # Process 0 writes this after a step that all have taken: all handle signals by then.
  log = tmp_path / "model/metrics.jsonl"
  until(lambda: '"train"' in (log.read_text() if log.exists() else "") or ended(job))
  job.processes[1].send_signal(number)
  ctrl_c = number == signal.SIGINT  # Only process 1 has got it.
  assert job.wait(120) == [75, 130 if ctrl_c else 75], job.texts()
  (step,) = saved(tmp_path)
  assert max(step for _, step in losses(tmp_path)) == step
  assert f"Stopped by SIGTERM at step {step:,} of 1,000,000; all is saved." in job.texts()[0]
  finish(tmp_path, f"--gin.TRAIN_STEPS={step + 1}", processes=2)


@pytest.mark.slow
def test_all_agree_that_a_save_failed_if_the_disk_of_one_is_full(tmp_path):
  """They train on without waiting for each other, save again, and then end together."""
  arguments = ("--gin.SAVE_PERIOD=5", '--gin.MESH_SHAPE={"fsdp": 2}', "--gin.EVAL_PERIOD=1000000")
  job = Job(tmp_path, "--gin.TRAIN_STEPS=1000000", *arguments, processes=2)
  until(lambda: len(saved(tmp_path)) > 1 or ended(job))
  process = job.processes[1].pid
  before = resource.prlimit(process, resource.RLIMIT_FSIZE)
  started = time.monotonic()
  resource.prlimit(process, resource.RLIMIT_FSIZE, (100, before[1]))  # bytes of a file
  until(lambda: "is not saved in" in job.texts()[0] or ended(job))
  assert time.monotonic() - started < 60
  newest = saved(tmp_path)[-1]
  resource.prlimit(process, resource.RLIMIT_FSIZE, before)
  until(lambda: saved(tmp_path)[-1] > newest or ended(job))
  assert not ended(job), job.texts()
  resource.prlimit(process, resource.RLIMIT_FSIZE, (100, before[1]))
  assert job.wait(120) == [4, 4], job.texts()
  first, second = job.texts()
  assert "File too large" in first and "is not saved" not in second
  assert "5 saves in a row failed (MAX_FAILED_SAVES)" in first
  assert not list((tmp_path / "model/checkpoints").glob("*tmp*"))
  finish(tmp_path, f"--gin.TRAIN_STEPS={saved(tmp_path)[-1] + 1}", *arguments, processes=2)


@pytest.mark.slow
def test_all_resume_from_the_step_that_each_of_them_can_read(tmp_path):
  """Every process reads only its own part of the arrays, and here one has lost a file of it."""
  mesh = "--gin.MESH_SHAPE={'fsdp': 2}"
  finish(tmp_path, mesh, "--gin.TRAIN_STEPS=4", processes=2)
  checkpoints = tmp_path / "model/checkpoints"
  whole = shutil.copytree(tmp_path / "model", tmp_path / "whole")
  part = checkpoints / "4/state/ocdbt.process_1/d"
  largest = max(part.iterdir(), key=lambda path: path.stat().st_size)
  largest.unlink()
  first, second = finish(tmp_path, mesh, "--gin.TRAIN_STEPS=6", processes=2)
  assert "the checkpoint of step 4 is damaged: state/ cannot be read" in " ".join(first.split())
  assert "(in process 1)" in first and "Resum" in first
  assert "damaged" not in second
  assert saved(tmp_path) == [2, 4, 6] and (checkpoints / "damaged-4").is_dir()

  # Numbers that changed are found by all, because they compare the same digests.
  shutil.rmtree(tmp_path / "model")
  whole.rename(tmp_path / "model")
  change_a_number(checkpoints / "4")
  first, _ = finish(tmp_path, mesh, "--gin.TRAIN_STEPS=6", processes=2)
  assert (
    "1 of 37 arrays in state/ are not what was saved: params/token_embed/embedding. It"
    in " ".join(first.split())
  )
  assert saved(tmp_path) == [2, 4, 6] and (checkpoints / "damaged-4").is_dir()


@pytest.mark.slow
def test_processes_of_slurm_find_each_other(tmp_path):
  """JAX finds the other processes in the variables that srun sets; SLURM is not needed."""

  def slurm(index, port):
    return {
      "SLURM_JOB_ID": str(port),  # JAX computes a port from it.
      "SLURM_STEP_NODELIST": "localhost",
      "SLURM_NTASKS": "2",
      "SLURM_PROCID": str(index),
      "SLURM_LOCALID": str(index),
      "SLURM_STEP_NUM_NODES": "1",
    }

  first, _ = finish(tmp_path, "--gin.TRAIN_STEPS=1", processes=2, environ=slurm)
  assert "on 2 cpu devices in 2 processes" in first


def test_a_taken_port_is_named(tmp_path):
  with socket.socket() as other:
    other.bind(("", 0))
    other.listen()
    address = f"localhost:{other.getsockname()[1]}"
    job = Job(
      tmp_path, f"--coordinator_address={address}", "--process_count=2", "--process_index=0"
    )
    assert job.wait(60) == [2]
  assert f"cannot listen at the address {address}: another program uses" in job.texts()[0]
  assert "Traceback" not in job.texts()[0]
