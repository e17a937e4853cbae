"""Only a kernel that can compute an attention is chosen, and always with a reason."""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from t5x_style import hardware
from t5x_style.models.attention_kernels import (
  cpu_blocks,
  gpu_support,
  long_rows,
  ring,
  select,
  short_rows,
  splash,
)
from t5x_style.models.attention_kernels.pattern import AttentionSpec, Pattern
from t5x_style.models.attention_kernels.select import choose_kernel

IDS = jnp.ones((8, 256), jnp.int32)
CAUSAL = Pattern(causal=True)
PACKED = Pattern(IDS, IDS, causal=True)


def spec(pattern=CAUSAL, length=256, heads=8, width=64, dtype="bfloat16", **rest):
  sizes = (8, length, heads, width)
  return AttentionSpec(sizes, sizes, dtype, pattern, **rest)


@pytest.mark.parametrize(
  ("platform", "attention", "kernel", "reason"),
  [
    ("cpu", spec(length=128), "xla", "the fastest on CPUs for rows so short or few"),
    ("cpu", spec(Pattern(), heads=128), "xla", "the fastest on CPUs for rows so short or few"),
    ("cpu", spec(length=512, bias=True, dtype="float32"), "blocked", "the fastest on CPUs"),
    ("cpu", spec(PACKED, heads=24), "blocked", "the fastest on CPUs"),
    ("cpu", spec(Pattern(window=128), heads=24), "xla", "the fastest on CPUs for rows so short"),
    ("tpu", spec(PACKED), "short", "the fastest on TPUs"),
    ("tpu", spec(length=1024), "splash", "the fastest on TPUs"),
    ("tpu", spec(length=2048, bias=True), "short", "the fastest on TPUs"),
    ("tpu", spec(heads=3, bias=True), "short", "the fastest on TPUs"),
    ("tpu", spec(soft_cap=50.0), "splash", "the kernel for short rows has no soft cap"),
    (
      "tpu",
      spec(length=2560, bias=True),
      "long",
      "2,560 keys of 2 x 64 numbers in bfloat16 do not",
    ),
    ("tpu", spec(length=2048, width=256, bias=True), "long", "2,048 keys of 1 x 256 numbers in b"),
    ("tpu", spec(length=512, heads=25), "splash", "512 keys of 25 x 64 numbers in bfloat16 do not"),
    ("gpu", spec(PACKED), "cudnn", "the fastest on GPUs"),
    ("gpu", spec(bias=True), "cudnn", "the fastest on GPUs"),
    ("gpu", spec(PACKED, bias=True), "xla", "no bias together with packed rows"),
    ("gpu", spec(Pattern(window=64, causal=True), bias=True), "xla", "no bias together with"),
    ("gpu", spec(dtype="float32"), "xla", "DTYPE is 'float32'"),
    ("gpu", spec(width=60), "xla", "a multiple of 8 up to 256, not 60"),
    ("gpu", spec(width=264), "xla", "a multiple of 8 up to 256, not 264"),
    ("gpu", spec(soft_cap=50.0), "xla", "cuDNN has no soft cap"),
    ("gpu", spec(PACKED, length=255), "xla", "even lengths only"),
    ("gpu", spec(length=255), "cudnn", "the fastest on GPUs"),
    ("gpu", spec(dropout_rate=0.1), "xla", "cuDNN has no dropout of attention weights"),
    ("tpu", spec(dropout_rate=0.1), "xla", "splash attention has no dropout of attention weights"),
    ("cpu", spec(length=512, dropout_rate=0.1), "xla", "attention by blocks has no dropout of"),
  ],
)
def test_automatic(on_platform, platform, attention, kernel, reason):
  on_platform(platform)
  chosen = choose_kernel("auto", "it", attention)
  assert chosen.name == kernel and reason in chosen.reason


def test_older_gpus(on_platform, monkeypatch):
  on_platform("gpu")
  monkeypatch.setattr(hardware, "compute_capability", lambda device: (8, 6))
  assert choose_kernel("auto", "it", spec()).name == "cudnn"
  assert "up to 128, not 192" in choose_kernel("auto", "it", spec(width=192)).reason
  monkeypatch.setattr(hardware, "compute_capability", lambda device: (7, 5))
  assert (
    "needs compute capability 8.0, the GPU has 7.5" in choose_kernel("auto", "it", spec()).reason
  )


def test_gpus_that_are_absent():
  """A program for them is compiled here, where devices are CPUs, or perhaps other GPUs."""

  def chosen(kind, width):
    device = AbstractDevice(device_kind=kind, num_cores=None, platform="gpu")
    with jax.sharding.use_abstract_mesh(AbstractMesh((8,), ("data",), abstract_device=device)):
      return choose_kernel("auto", "it", spec(width=width))

  assert "up to 128, not 192" in chosen("NVIDIA A100-SXM4-80GB", 192).reason
  assert chosen("NVIDIA A100-SXM4-80GB", 128).name == "cudnn"
  assert chosen("NVIDIA H200", 192).name == "cudnn"
  assert chosen("NVIDIA X", 192).name == "cudnn"


@pytest.mark.parametrize(
  ("platform", "requested", "message"),
  [
    ("cpu", "splash", "cannot compute the decoder's self-attention: splash attention runs on TPUs"),
    ("cpu", "cudnn", "cuDNN runs on NVIDIA GPUs, and the devices are CPUs. Set ATTENTION = 'auto'"),
    ("tpu", "blocked", "attention by blocks runs on CPUs, and the devices are TPUs"),
    ("tpu", "splash", "has no bias, which relative positions need. Set ATTENTION = 'auto', which"),
  ],
)
def test_a_kernel_that_cannot_is_refused(on_platform, platform, requested, message):
  on_platform(platform)
  with pytest.raises(ValueError, match=message):
    choose_kernel(requested, "the decoder's self-attention", spec(bias=True))


def test_who_asks_for_a_kernel_without_dropout_is_told_both_ways_out(on_platform):
  on_platform("gpu")
  message = (
    "ATTENTION = 'cudnn' cannot compute it: cuDNN has no dropout of attention weights. Set "
    "ATTENTION = 'auto', which takes 'xla' for it, or ATTENTION_DROPOUT_RATE = 0.0 in place of 0.1."
  )
  with pytest.raises(ValueError, match=message):
    choose_kernel("cudnn", "it", spec(dropout_rate=0.1))


class DilatedPattern(Pattern):
  """A pattern with a new field, which no fast kernel knows."""

  dilation: int | None = flax.struct.field(pytree_node=False, default=None)


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("bias", [False, True])
def test_unknown_fields_of_patterns_are_left_to_xla(on_platform, platform, bias):
  on_platform(platform)
  chosen = choose_kernel("auto", "it", spec(DilatedPattern(dilation=2), length=512, bias=bias))
  assert chosen.name == "xla" and "does not compute patterns with dilation" in chosen.reason
  assert choose_kernel("auto", "it", spec(DilatedPattern(), length=512, bias=bias)).name != "xla"


def test_xla_can_be_requested_anywhere(on_platform):
  on_platform("tpu")
  assert choose_kernel("xla", "it", spec()) == ("xla", "requested by ATTENTION")


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_rows_that_are_split_over_devices(on_platform, monkeypatch, platform):
  on_platform(platform)
  split = {"batch": 2, "length": 4}
  for module in (select.active_mesh, ring, splash, short_rows, long_rows, gpu_support, cpu_blocks):
    monkeypatch.setattr(module, "num_shards", lambda names: tuple(split.get(x, 1) for x in names))
  choose = functools.partial(choose_kernel, "auto", "it")
  for attention in (spec(), spec(PACKED, bias=True), spec(Pattern(window=8), dtype="float32")):
    assert choose(attention) == ("ring", "rows are split over devices")
  for attention, reason in (
    (spec(dropout_rate=0.1), "ring attention has no dropout of attention weights"),
    (spec(length=254), "254 queries and 254 keys do not divide over 4 devices"),
    (spec()._replace(keys=(8, 128, 8, 64)), "do not have the same positions"),
  ):
    chosen = choose(attention)
    assert chosen.name == "xla" and reason in chosen.reason


def test_a_ring_needs_rows_that_are_split(on_platform):
  on_platform("tpu")
  with pytest.raises(
    ValueError, match="is for rows that are split over devices, along sequence in"
  ):
    choose_kernel("ring", "it", spec())
