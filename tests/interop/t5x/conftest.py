"""T5X checkpoints in all layouts, written with T5X's libraries, and its forward pass in NumPy."""

import flax.serialization
import flax.traverse_util
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore as ts

V, D, N, H, F = 40, 16, 2, 8, 24  # one head width is not D / N
LAYERS = {"encoder": 3, "decoder": 2}


def t5x_parameters(gated=True, tied=False, dtype=np.float32):
  """{"encoder/layers_0/mlp/wi_0/kernel": array} under T5X's names, of a small model."""
  random = np.random.default_rng(0)
  shapes = {"token_embedder/embedding": (V, D)}
  if not tied:
    shapes["decoder/logits_dense/kernel"] = (D, V)
  for stack, layers in LAYERS.items():
    shapes[f"{stack}/relpos_bias/rel_embedding"] = (N, 32)
    shapes[f"{stack}/{stack}_norm/scale"] = (D,)
    attentions = {"encoder": {"attention": "attention"}}.get(
      stack, {"self_attention": "self_attention", "encoder_decoder_attention": "cross_attention"}
    )
    for i in range(layers):
      layer = f"{stack}/layers_{i}"
      for attention, norm in attentions.items():
        shapes[f"{layer}/pre_{norm}_layer_norm/scale"] = (D,)
        for part in ("query", "key", "value"):
          shapes[f"{layer}/{attention}/{part}/kernel"] = (D, N * H)
        shapes[f"{layer}/{attention}/out/kernel"] = (N * H, D)
      shapes[f"{layer}/pre_mlp_layer_norm/scale"] = (D,)
      for wi in ("wi_0", "wi_1") if gated else ("wi",):
        shapes[f"{layer}/mlp/{wi}/kernel"] = (D, F)
      shapes[f"{layer}/mlp/wo/kernel"] = (F, D)
  return {
    name: np.asarray(
      random.normal(size=s) * (1.0 if "embedding" in name else 0.4) + name.endswith("scale"), dtype
    )
    for name, s in shapes.items()
  }


def scanned(params):
  """The same with layers stacked along axis 1 and heads apart, as T5X's larger models have it."""
  result = {k: v for k, v in params.items() if "/layers_" not in k}
  for stack, layers in LAYERS.items():
    for name in [n for n in params if n.startswith(f"{stack}/layers_0/")]:
      each = [params[name.replace("layers_0", f"layers_{i}")] for i in range(layers)]
      if "attention/" in name:
        each = [x.reshape((N, H, D) if "/out/" in name else (D, N, H)) for x in each]
      result[name.replace("layers_0", stack)] = np.stack(each, axis=1)
  return result


def write_zarr(path, array):
  name = jnp.dtype(array.dtype).name
  store = ts.open(
    {
      "driver": "zarr",
      "dtype": name,
      "kvstore": {"driver": "file", "path": str(path)},
      "metadata": {"shape": array.shape, "chunks": array.shape, "compressor": {"id": "gzip"}},
    },
    create=True,
  ).result()
  store.write(array).result()


def optimizer_state(params):
  return {
    "step": np.int32(7),
    "param_states": {"token_embedder": {"embedding": {"v_row": np.ones(D, np.float32)}}},
  }


def write_msgpack(folder, params, driver="file", with_state=True):
  """T5X's own Checkpointer: big arrays in zarr folders, small ones in the msgpack file."""
  step = folder / "checkpoint_7"
  step.mkdir(parents=True)
  leaves = {}
  for name, array in params.items():
    if name.endswith("scale"):  # not partitioned
      leaves[name] = array
      continue
    path = f"target.{name.replace('/', '.')}"
    write_zarr(step / path, array)
    bucket = {"bucket": "t5x-dummy-bucket"} if driver == "gcs" else {}
    leaves[name] = {
      "driver": "zarr",
      "dtype": jnp.dtype(array.dtype).name,
      "kvstore": {"driver": driver, "path": f"{path}/", **bucket},
      "metadata": {
        "chunks": list(array.shape),
        "compressor": {"id": "gzip", "level": 1},
        "shape": list(array.shape),
      },
    }
  target = flax.traverse_util.unflatten_dict(leaves, sep="/")
  state = {"state": optimizer_state(params)} if with_state else {}
  content = {"version": 3, "optimizer": {"target": target, **state}}
  (step / "checkpoint").write_bytes(flax.serialization.to_bytes(content))


def write_orbax(folder, params, ocdbt):
  """T5X on Orbax: checkpoint_N/state."""
  step = folder / "checkpoint_7"
  step.mkdir(parents=True)
  tree = {
    "target": flax.traverse_util.unflatten_dict(
      {k: jnp.asarray(v) for k, v in params.items()}, sep="/"
    ),
    "state": optimizer_state(params),
  }
  ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)).save(step / "state", tree)


def write_placeholders(folder, params):
  """T5X on the Orbax of 2023: zarr folders, and a msgpack file of where they are."""
  state = folder / "checkpoint_7" / "state"
  state.mkdir(parents=True)
  leaves = {}
  for name, array in params.items():
    path = f"target.{name.replace('/', '.')}"
    write_zarr(state / path, array)
    leaves[name] = f"PLACEHOLDER://{path}"
  tree = {"target": flax.traverse_util.unflatten_dict(leaves, sep="/"), "state": {"step": 7}}
  (state / "checkpoint").write_bytes(flax.serialization.msgpack_serialize(tree))


WRITERS = {
  "msgpack": write_msgpack,
  "msgpack of a bucket": lambda *a: write_msgpack(*a, driver="gcs", with_state=False),
  "placeholders": write_placeholders,
  "orbax": lambda *a: write_orbax(*a, ocdbt=False),
  "orbax, one store": lambda *a: write_orbax(*a, ocdbt=True),
}


def rms_norm(x, scale):
  return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


def position_bias(table, queries, keys, both_ways):
  """T5's buckets, one pair of positions at a time."""
  bias = np.zeros((N, queries, keys))
  for q in range(queries):
    for k in range(keys):
      distance, first, count = k - q, 0, 32
      if both_ways:
        count, first = 16, 16 if distance > 0 else 0
        distance = abs(distance)
      else:
        distance = max(-distance, 0)
      near = count // 2
      bucket = distance
      if distance >= near:
        far = np.log(distance / near) / np.log(128 / near) * (count - near)
        bucket = min(near + int(far), count - 1)
      bias[:, q, k] = table[:, first + bucket]
  return bias


def attention(p, prefix, x, source, bias, seen):
  query, key, value = (
    (y @ p[f"{prefix}/{name}/kernel"]).reshape(*y.shape[:-1], N, H)
    for name, y in (("query", x), ("key", source), ("value", source))
  )
  logits = np.einsum("qnh,knh->nqk", query, key) + bias  # no division by sqrt(H)
  logits = np.where(seen, logits, -1e10)
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  joined = np.einsum("nqk,knh->qnh", weights, value).reshape(len(x), N * H)
  return joined @ p[f"{prefix}/out/kernel"]


def mlp(p, prefix, x):
  if f"{prefix}/wi/kernel" in p:
    return np.maximum(x @ p[f"{prefix}/wi/kernel"], 0) @ p[f"{prefix}/wo/kernel"]
  gate = x @ p[f"{prefix}/wi_0/kernel"]
  gate = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
  return (gate * (x @ p[f"{prefix}/wi_1/kernel"])) @ p[f"{prefix}/wo/kernel"]


def t5x_logits(params, inputs, decoder_inputs):
  """T5X's network (examples/t5/network.py) on one row of ids, zeros at the end being padding."""
  p = {name: np.asarray(x, np.float64) for name, x in params.items()}
  read = (np.asarray(inputs) > 0)[None, None, :]
  x = p["token_embedder/embedding"][inputs]
  bias = position_bias(p["encoder/relpos_bias/rel_embedding"], len(x), len(x), True)
  for i in range(LAYERS["encoder"]):
    layer = f"encoder/layers_{i}"
    y = rms_norm(x, p[f"{layer}/pre_attention_layer_norm/scale"])
    x = x + attention(p, f"{layer}/attention", y, y, bias, read)
    x = x + mlp(p, f"{layer}/mlp", rms_norm(x, p[f"{layer}/pre_mlp_layer_norm/scale"]))
  encoded = rms_norm(x, p["encoder/encoder_norm/scale"])
  y = p["token_embedder/embedding"][decoder_inputs]
  bias = position_bias(p["decoder/relpos_bias/rel_embedding"], len(y), len(y), False)
  causal = np.tri(len(y), dtype=bool)[None]
  for i in range(LAYERS["decoder"]):
    layer = f"decoder/layers_{i}"
    z = rms_norm(y, p[f"{layer}/pre_self_attention_layer_norm/scale"])
    y = y + attention(p, f"{layer}/self_attention", z, z, bias, causal)
    z = rms_norm(y, p[f"{layer}/pre_cross_attention_layer_norm/scale"])
    y = y + attention(p, f"{layer}/encoder_decoder_attention", z, encoded, 0.0, read)
    y = y + mlp(p, f"{layer}/mlp", rms_norm(y, p[f"{layer}/pre_mlp_layer_norm/scale"]))
  y = rms_norm(y, p["decoder/decoder_norm/scale"])
  if "decoder/logits_dense/kernel" in p:
    return y @ p["decoder/logits_dense/kernel"]
  return y @ p["token_embedder/embedding"].T / np.sqrt(D)


@pytest.fixture(params=WRITERS)
def write(request):
  return WRITERS[request.param]
