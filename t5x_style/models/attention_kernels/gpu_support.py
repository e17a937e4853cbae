"""What all kernels for NVIDIA GPUs need: a recent GPU, 16 bits, whole rows and whole heads."""

from t5x_style.models.attention_kernels.head_sharding import heads_error
from t5x_style.models.attention_kernels.pattern import AttentionSpec
from t5x_style.partitioning.active_mesh import current_capability, num_shards

_LEAST_CAPABILITY = (8, 0)  # Ampere


def gpu_error(title: str, spec: AttentionSpec) -> str | None:
  """Returns why a kernel cannot run on these GPUs, in this dtype or mesh, or None if it can.

  Args:
    title: what the message calls the kernel.
    spec: of the attention.
  """
  capability = current_capability()  # None: not known.
  if capability is not None and capability < _LEAST_CAPABILITY:
    least, found = (".".join(map(str, x)) for x in (_LEAST_CAPABILITY, capability))
    return f"{title} needs compute capability {least}, the GPU has {found}"
  if spec.dtype not in ("bfloat16", "float16"):
    return f"{title} computes in bfloat16 or float16, DTYPE is {spec.dtype!r}"
  if num_shards(("batch", "length"))[1] > 1:
    return f"{title} cannot split the length over devices"
  return heads_error(spec)
