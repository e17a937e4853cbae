"""The XLA kernel against float64, and that documents have no influence on each other."""

import pytest


def test_every_pattern(any_pattern, inputs, check):
  check("xla", any_pattern, inputs(), with_bias=True, soft_cap=2.0)


@pytest.mark.parametrize(("L", "S", "K"), [(7, 5, 1), (1, 9, 4)])
def test_cross_attention_of_odd_lengths(inputs, pattern, check, L, S, K):
  check("xla", pattern("both ways"), inputs(L, S, K=K))


def test_documents_are_apart(pattern, inputs, check_documents_are_apart):
  check_documents_are_apart("xla", pattern("packed, prefix"), inputs(), with_bias=True)


def test_bfloat16(pattern, inputs, check):
  check("xla", pattern("packed"), inputs(), with_bias=True, dtype="bfloat16", atol=0.02)
