"""Plays gcloud: records every call, keeps one queued resource, and has a folder for each host.

A command for a host runs in its folder. In the folder FAKE_CLOUD, the file `preempt` has the cloud
take the slices back while a command runs, and with `delete` somebody deletes them. `break` breaks
the connection that follows a run; with `retry` gcloud connects again by itself, as it does ten
times.
`states` has the states through which a request passes, and `fails` lines such as "queued-resources
describe": the first fails one such call, as without a network, and is removed.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CLOUD = Path(os.environ["FAKE_CLOUD"])
QUEUE = CLOUD / "queue.json"
WORKERS = 2


def main(words: list[str]) -> int:
  with (CLOUD / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(words) + "\n")
  assert words[:2] == ["compute", "tpus"], words
  kind, action, *words = words[2:]
  flags = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--"))
  names = [word for word in words if not word.startswith("--")]
  fails = lines_of("fails")
  if fails[:1] == [f"{kind} {action}"]:
    (CLOUD / "fails").write_text("".join(f"{line}\n" for line in fails[1:]))
    print("ERROR: no network", file=sys.stderr)
    return 1
  if kind == "queued-resources":
    return queued(action, names[0], flags)
  return on_hosts(action, names, flags)


def queued(action: str, name: str, flags: dict[str, str]) -> int:
  if action == "create":
    assert not QUEUE.exists()
    count = int(flags.get("node-count", 0))
    several = {"multisliceParams": {"nodeCount": count}}
    nodes = several if count else {"nodeId": flags["node-id"]}
    states = lines_of("states") or ["WAITING_FOR_RESOURCES", "ACTIVE"]
    write({"name": name, "states": states, "tpu": {"nodeSpec": [nodes]}})
    return 0
  if not QUEUE.exists():
    print("ERROR: NOT_FOUND", file=sys.stderr)
    return 1
  queue = json.loads(QUEUE.read_text())
  if action == "delete":
    assert {"force", "quiet"} <= flags.keys()
    QUEUE.unlink()
    shutil.rmtree(CLOUD / "hosts", ignore_errors=True)
  elif flags["format"] == "json":
    print(json.dumps(queue | {"state": {"state": queue["states"][0]}}))
  else:
    print(queue["states"][0])
    write(queue | {"states": queue["states"][1:] or queue["states"]})
  return 0


def lines_of(name: str) -> list[str]:
  path = CLOUD / name
  return path.read_text().splitlines() if path.exists() else []


def write(queue: dict[str, object]) -> None:
  QUEUE.write_text(json.dumps(queue))


def on_hosts(action: str, names: list[str], flags: dict[str, str]) -> int:
  if not QUEUE.exists() or json.loads(QUEUE.read_text())["states"] != ["ACTIVE"]:
    print("ERROR: the node does not exist", file=sys.stderr)
    return 1
  node = names[-1].partition(":")[0]
  workers = range(WORKERS) if flags["worker"] == "all" else [int(flags["worker"])]
  homes = [CLOUD / "hosts" / f"{node}.{worker}" for worker in workers]
  for home in homes:
    home.mkdir(parents=True, exist_ok=True)
  if action == "scp":
    for home in homes:
      shutil.copy(names[0], home / names[1].partition(":")[2])
    return 0
  codes = [run(home, flags["command"]) for home in homes]
  return next(filter(None, codes), 0)


def run(home: Path, command: str) -> int:
  environ = os.environ | {"HOME": str(home)}
  child = subprocess.Popen(["bash", "-c", command], cwd=home, env=environ, start_new_session=True)
  while child.poll() is None:
    if happens("preempt") or happens("delete"):
      if happened("delete"):
        QUEUE.unlink()
      else:
        write(json.loads(QUEUE.read_text()) | {"states": ["SUSPENDED"]})
      for pid in CLOUD.glob("hosts/*/.t5x_style_run/pid"):
        with contextlib.suppress(ProcessLookupError):  # Its run has ended.
          os.kill(int(pid.read_text()), signal.SIGKILL)
      os.killpg(child.pid, signal.SIGKILL)
      happened("preempt")
      return 255
    if " follow " in command and (happens("break") or happens("retry")):
      os.killpg(child.pid, signal.SIGKILL)
      child.wait()
      again = happened("retry")
      happened("break")
      return run(home, command) if again else 255
    time.sleep(0.02)
  return child.returncode


def happens(what: str) -> bool:
  return (CLOUD / what).exists()


def happened(what: str) -> bool:
  """Removes the file of what happens, and returns whether there was one."""
  there = happens(what)
  (CLOUD / what).unlink(missing_ok=True)
  return there


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
