"""How the active mesh and rules split arrays, on one device and on eight simulated ones."""

import json

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from t5x_style.partitioning import Partitioner, active_mesh, make_mesh


def test_nothing_is_split_on_one_device():
  names = ("batch", "length", "heads")
  assert active_mesh.partition_spec(names) is None
  with Partitioner(make_mesh(devices=jax.devices()[:1])).context():
    assert active_mesh.partition_spec(names) is None
    assert active_mesh.num_shards(names) == (1, 1, 1)
    assert active_mesh.on_each_device(len, [names], names) is len
    assert active_mesh.current_platform() == "cpu"


def test_rules_split_arrays_and_functions_get_their_parts(on_eight_devices):
  (line,) = on_eight_devices(__file__)
  found = json.loads(line)
  assert found["spec"] == str(PartitionSpec(("data", "fsdp"), None, "tensor", None))
  assert found["shards"] == [4, 1, 2, 1]
  assert found["axes"] == [["data", "fsdp"], [], ["tensor"], []]
  assert found["without the rule"] == [4, 1, 1, 1]
  # Each device sums its own two of eight rows and three of six heads, all ones.
  assert found["sums"] == [[2 * 3.0] * 2] * 4


def main():
  names = ("batch", "length", "heads", "kv")
  mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
  found = {}
  with Partitioner(mesh, (("heads", None),)).context():
    found["without the rule"] = active_mesh.num_shards(names)
  with Partitioner(mesh).context():
    found["spec"] = str(active_mesh.partition_spec(names))
    found["shards"] = active_mesh.num_shards(names)
    found["axes"] = active_mesh.mesh_axes(names)
    total = active_mesh.on_each_device(
      lambda x: x.sum(keepdims=True)[:, 0, :, 0], [names], ("batch", "heads")
    )
    found["sums"] = jax.jit(total)(jnp.ones((8, 1, 6, 1))).tolist()
  print(json.dumps(found))


if __name__ == "__main__":
  main()
