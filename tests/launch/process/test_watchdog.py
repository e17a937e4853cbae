"""Which errors are taken for the loss of another process."""

from launch.process import watchdog

LOST = [
  "Gloo all-reduce failed: [external/gloo/transport/tcp/pair.cc:538] Connection closed by peer",
  "Gloo AllGather failed: [external/gloo/unbound_buffer.cc:78] Timed out waiting 30000ms for recv",
  "NCCL operation ncclGroupEnd() failed: remote process exited or there was a network error",
  "Barrier timed out. Id: end::0. This usually happens because a task triggered the barrier late",
  "UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was preempted",
  "/job:jax_worker/replica:0/task:1 heartbeat timeout. This indicates that the remote task failed",
  "UNAVAILABLE: Socket closed",
]
OTHERS = [
  RuntimeError("no peer access between these two GPUs"),
  RuntimeError("cannot lower optimization_barrier"),
  RuntimeError("NCCL operation ncclCommInitRank() failed: unhandled cuda error, out of memory"),
  RuntimeError("libgloo.so was not found"),
  ConnectionResetError(104, "Connection reset by peer"),
]


def test_only_what_jax_says_of_a_lost_process_is_taken_for_one(monkeypatch):
  assert watchdog.explain(RuntimeError(LOST[0])) is None, "there is one process"
  monkeypatch.setattr(watchdog, "_finished", [0])
  for text in LOST:
    assert "another process of this job is lost" in watchdog.explain(RuntimeError(text)), text
  for error in OTHERS:
    assert watchdog.explain(error) is None, error
