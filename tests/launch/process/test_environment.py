"""The environment that a command prepares."""

import os
import subprocess
import sys

import pytest

from launch.process import environment


def test_the_cache_belongs_to_the_user_and_the_processor():
  environ = {"XDG_CACHE_HOME": "/home/me/cache"}
  environment.set_compilation_cache(environ)
  assert environ["JAX_COMPILATION_CACHE_DIR"] == (
    f"/home/me/cache/t5x_style/xla/{environment.processor_name()}"
  )
  environ = {"JAX_COMPILATION_CACHE_DIR": ""}  # The user wants no cache.
  environment.set_compilation_cache(environ)
  assert environ["JAX_COMPILATION_CACHE_DIR"] == ""


def test_the_users_xla_flags_come_last(monkeypatch):
  monkeypatch.setitem(environment.XLA_FLAGS, "cpu", {"xla_a": "1"})
  environ = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_a=2"}
  environment.set_xla_flags(environ)
  assert environ["XLA_FLAGS"] == "--xla_a=1 --xla_a=2"
  assert environment.xla_facts(environ) == {"XLA_FLAGS": "--xla_a=1 --xla_a=2"}
  assert environment.xla_facts({"JAX_PLATFORMS": "cpu"}) == {}


def test_accelerator():
  assert environment.accelerator({"JAX_PLATFORMS": "cuda"}) == "gpu"
  assert environment.accelerator({"JAX_PLATFORMS": "tpu,cpu"}) == "tpu"
  assert environment.accelerator({"JAX_PLATFORMS": "cpu"}) == "cpu"


def test_xla_knows_all_flags():
  """XLA ends the process at an unknown flag: a removed flag fails here."""
  all_flags = environment.XLA_FLAGS["gpu"] | environment.DETERMINISTIC_FLAGS["gpu"]
  flags = " ".join(f"--{name}={value}" for name, value in all_flags.items())
  environ = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-c", "import jax; jax.devices()"],
    env=environ,
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert done.returncode == 0, done.stderr


def test_deterministic_runs_have_flags_on_gpus_only():
  environ = {"JAX_PLATFORMS": "cuda", "XLA_FLAGS": "--xla_a=2"}
  environment.set_deterministic(environ)
  assert environ["XLA_FLAGS"].startswith("--xla_gpu_deterministic_ops=true ")
  assert environ["XLA_FLAGS"].endswith(" --xla_a=2")
  for platform in ("cpu", "tpu"):
    environ = {"JAX_PLATFORMS": platform}
    environment.set_deterministic(environ)
    assert environ == {"JAX_PLATFORMS": platform}


LATE = """
import jax
from launch.process import environment
environment.DETERMINISTIC_FLAGS["gpu"] = {"xla_force_host_platform_device_count": "3"}
environment.set_deterministic(kind="gpu")
print(len(jax.devices()))
"""


def test_xla_reads_flags_that_are_set_after_jax_is_imported():
  """Settings are read, and DETERMINISTIC is known, only then."""
  environ = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_PLATFORMS": "cpu"}
  done = subprocess.run(
    [sys.executable, "-c", LATE], env=environ, capture_output=True, text=True, timeout=100
  )
  assert done.stdout == "3\n", done.stderr


def test_quiet_imports_remove_only_notices(capfd):
  with environment.quiet_imports():
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called ...\n")
    os.write(2, b"I0000 00:00:1 1 cudart_stub.cc:31] Could not find cuda drivers\n")
    os.write(2, b"Segmentation fault\n")
  os.write(2, b"after\n")
  assert capfd.readouterr().err == "Segmentation fault\nafter\n"


def test_tensorflow_is_imported_without_its_notices_at_any_time(tmp_path, monkeypatch, capfd):
  (tmp_path / "tensorflow").mkdir()
  (tmp_path / "tensorflow/__init__.py").write_text(
    "import os\n"
    "os.write(2, b'I0000 00:00:1 1 cudart_stub.cc:31] Could not find cuda drivers\\n')\n"
    "os.write(2, b'an error\\n')\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
  for name in [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]:
    monkeypatch.delitem(sys.modules, name)
  environment.prepare({})
  import tensorflow

  assert capfd.readouterr().err == "an error\n"
  assert type(tensorflow.__loader__) is type(tensorflow.__spec__.loader)
  assert tensorflow.__loader__.get_source("tensorflow").startswith("import os")
  del sys.modules["tensorflow"]


PROGRAM = """
import os, sys
from launch.process import environment
environment.prepare()
import jax
print(jax.config.jax_compilation_cache_dir)
print(jax.jit(lambda x: x + 1)(1))
print("tensorflow" in sys.modules)
"""


def test_prepare_reaches_jax_and_prints_nothing(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM],
    env={**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    timeout=100,
  )
  assert done.stderr == ""
  assert done.stdout.splitlines()[1:] == ["2", "False"]
  assert done.stdout.startswith(str(tmp_path / "t5x_style" / "xla"))


LARGE_PAGES = """
import os, sys
from launch.process import environment
environment.take_large_pages()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), sys.argv)
"""


@pytest.mark.parametrize(
  "platform, given, expected",
  [
    ("cpu", None, "glibc.malloc.hugetlb=1"),
    ("cpu", "glibc.malloc.arena_max=4", "glibc.malloc.arena_max=4:glibc.malloc.hugetlb=1"),
    ("cpu", "glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ("cuda", None, "None"),
  ],
)
def test_the_same_program_starts_again_with_large_pages(platform, given, expected):
  if not environment._has_large_pages():
    pytest.skip("the kernel or the C library of this machine has none to give")
  environ = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
  environ |= {"JAX_PLATFORMS": platform} | ({"GLIBC_TUNABLES": given} if given else {})
  command = [sys.executable, "-c", LARGE_PAGES, "an argument", "--flag=1"]
  with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
    output = process.stdout.read()
  # The process id stays the same, so the parent can still wait for the process or end it.
  assert output == f"{process.pid} {expected} ['-c', 'an argument', '--flag=1']\n"


PLAIN = """
import gc, os, sys
from launch.process import environment, watchdog
environment.take_large_pages()
with environment.quiet_imports():
  os.write(2, b"I0000 00:00:1 1 cudart_stub.cc:31] Could not find cuda drivers\\n")
frozen = gc.get_freeze_count()  # Python itself freezes some objects.
environment.freeze_objects()
frozen = gc.get_freeze_count() - frozen
watchdog.watch()
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), frozen, watchdog.connected())
try:
  os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
  print("no child")
watchdog.finished()
"""


def test_a_plain_process_is_left_as_it_is():
  """No second start, no fork, no change of the standard error, no frozen objects."""
  environ = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
  environ |= {"JAX_PLATFORMS": "cpu", "T5X_STYLE_PLAIN_PROCESS": "1"}
  command = [sys.executable, "-c", PLAIN]
  with subprocess.Popen(
    command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  ) as process:
    output, errors = process.communicate(timeout=100)
  assert output == f"{process.pid} None 0 True\nno child\n"
  assert "cuda drivers" in errors


@pytest.mark.parametrize(("value", "plain"), [("1", True), ("0", False), ("", False)])
def test_which_processes_are_plain(value, plain):
  assert environment.is_plain({"T5X_STYLE_PLAIN_PROCESS": value}) is plain
  assert not environment.is_plain({})
