"""Who computes what: never a kernel that cannot, and never without a reason."""

import jax.numpy as jnp
import pytest

from t5x_style.models.attention import Pattern
from t5x_style.models.attention_kernels import cudnn
from t5x_style.models.attention_kernels.choice import Case, choose

IDS = jnp.ones((8, 256), jnp.int32)
CAUSAL = Pattern(causal=True)
PACKED = Pattern(IDS, IDS, causal=True)


def case(pattern=CAUSAL, length=256, heads=8, width=64, dtype="bfloat16", **rest):
  sizes = (8, length, heads, width)
  return Case(sizes, sizes, dtype, pattern, **rest)


@pytest.mark.parametrize(
  ("platform", "asked", "kernel", "reason"),
  [
    ("cpu", case(length=128), "xla", "the fastest on CPUs for rows so short or few"),
    ("cpu", case(Pattern(), heads=128), "xla", "the fastest on CPUs for rows so short or few"),
    ("cpu", case(length=512, bias=True, dtype="float32"), "blocked", "the fastest on CPUs"),
    ("cpu", case(PACKED, heads=24), "blocked", "the fastest on CPUs"),
    ("cpu", case(Pattern(window=128), heads=24), "xla", "the fastest on CPUs for rows so short"),
    ("tpu", case(PACKED), "short", "the fastest on TPUs"),
    ("tpu", case(length=1024), "splash", "the fastest on TPUs"),
    ("tpu", case(length=2048, bias=True), "short", "the fastest on TPUs"),
    ("tpu", case(heads=3, bias=True), "short", "the fastest on TPUs"),
    ("tpu", case(soft_cap=50.0), "splash", "the kernel for short rows has no soft cap"),
    ("tpu", case(length=2560, bias=True), "xla", "2,560 keys of 2 x 64 numbers in bfloat16 do not"),
    ("tpu", case(length=2048, width=256, bias=True), "xla", "2,048 keys of 1 x 256 numbers in b"),
    ("tpu", case(length=512, heads=25), "splash", "512 keys of 25 x 64 numbers in bfloat16 do not"),
    ("gpu", case(PACKED), "cudnn", "the fastest on GPUs"),
    ("gpu", case(bias=True), "cudnn", "the fastest on GPUs"),
    ("gpu", case(PACKED, bias=True), "xla", "no bias together with packed rows"),
    ("gpu", case(Pattern(window=64, causal=True), bias=True), "xla", "no bias together with"),
    ("gpu", case(dtype="float32"), "xla", "DTYPE is 'float32'"),
    ("gpu", case(width=60), "xla", "a multiple of 8 up to 256, not 60"),
    ("gpu", case(width=264), "xla", "a multiple of 8 up to 256, not 264"),
    ("gpu", case(soft_cap=50.0), "xla", "cuDNN has no soft cap"),
    ("gpu", case(PACKED, length=255), "xla", "even lengths alone"),
    ("gpu", case(length=255), "cudnn", "the fastest on GPUs"),
  ],
)
def test_automatic(on_platform, platform, asked, kernel, reason):
  on_platform(platform)
  chosen = choose("auto", "it", asked)
  assert chosen.name == kernel and reason in chosen.reason


def test_older_gpus(on_platform, monkeypatch):
  on_platform("gpu")
  monkeypatch.setattr(cudnn, "_compute_capability", lambda: (8, 6))
  assert choose("auto", "it", case()).name == "cudnn"
  assert "up to 128, not 192" in choose("auto", "it", case(width=192)).reason
  monkeypatch.setattr(cudnn, "_compute_capability", lambda: (7, 5))
  assert "needs compute capability 8.0, the GPU has 7.5" in choose("auto", "it", case()).reason


@pytest.mark.parametrize(
  ("platform", "asked", "message"),
  [
    ("cpu", "splash", "cannot compute the decoder's self-attention: splash attention runs on TPUs"),
    ("cpu", "cudnn", "cuDNN runs on NVIDIA GPUs, and the devices are CPUs. Set ATTENTION = 'auto'"),
    ("tpu", "blocked", "attention by blocks is for CPUs, and the devices are TPUs"),
    ("tpu", "splash", "has no bias, which relative positions need. Set ATTENTION = 'auto', which"),
  ],
)
def test_what_is_asked_for_in_vain_is_refused(on_platform, platform, asked, message):
  on_platform(platform)
  with pytest.raises(ValueError, match=message):
    choose(asked, "the decoder's self-attention", case(bias=True))


def test_xla_can_be_asked_for_anywhere(on_platform):
  on_platform("tpu")
  assert choose("xla", "it", case()) == ("xla", "asked for by ATTENTION")
