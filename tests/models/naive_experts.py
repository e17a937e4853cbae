"""A mixture of experts in NumPy, one token after the other, without anything of the package."""

import math

import numpy as np


def activation(name, x):
  if name == "relu":
    return np.maximum(x, 0)
  return x / (1 + np.exp(-x)) if name == "silu" else x


def feed_forward(x, kernels, names, expert):
  """Returns what an expert makes of one token x [D]."""
  gates = [f"wi_{i}" for i in range(len(names))] if len(names) > 1 else ["wi"]
  product = 1.0
  for name, gate in zip(names, gates, strict=True):
    product = product * activation(name, x @ kernels[gate]["kernel"][expert])
  return product @ kernels["wo"]["kernel"][expert]


def run(
  params,
  x,
  names,
  *,
  count,
  normalize=False,
  factor=None,
  rows_per_group=1,
  row_capacity=None,
  real=None,
):
  """Returns (y [B, L, D], {name: sums of the router}, choices that were kept [B, L, count]).

  Args:
    params: {"router": {"kernel"}, "experts": {...}} of one layer, float64.
    count: experts of a token.
    factor: of the capacity; None: no limit.
    row_capacity: choices of a row that an expert computes, with rows_per_group = 1.
  """
  rows, length, _ = x.shape
  size = params["router"]["kernel"].shape[1]
  y, kept = np.zeros_like(x), np.zeros((rows, length, count), bool)
  sums = {"chosen": np.zeros(size), "probability": np.zeros(size), "z": 0.0, "tokens": 0}
  for group in range(0, rows, rows_per_group):
    tokens = [(row, at) for row in range(group, group + rows_per_group) for at in range(length)]
    room = math.inf
    if factor is not None:
      room = min(max(math.ceil(factor * count * len(tokens) / size), 1), len(tokens))
    if row_capacity is not None:
      room = row_capacity
    load = np.zeros(size, int)
    for k in range(count):  # All first choices come before any second one.
      for row, at in tokens:
        if real is not None and not real[row, at]:
          continue
        logits = x[row, at] @ params["router"]["kernel"]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        order = sorted(range(size), key=lambda e: -p[e])[:count]
        if k == 0:
          sums["probability"] += p
          sums["z"] += (np.log(np.exp(logits - logits.max()).sum()) + logits.max()) ** 2
          sums["tokens"] += 1
        expert = order[k]
        sums["chosen"][expert] += 1
        if load[expert] == room:
          continue
        load[expert] += 1
        kept[row, at, k] = True
        weight = p[expert] / (p[order].sum() if normalize else 1.0)
        y[row, at] += weight * feed_forward(x[row, at], params["experts"], names, expert)
  return y, sums, kept
