"""The products of a step are all found: their FLOPs are those of the formula."""

import dataclasses

import pytest

from launch.benchmarks import products, step_cases
from launch.benchmarks.products import Product


@pytest.mark.parametrize("scanned", [False, True])
def test_the_products_have_the_flops_of_the_formula(scanned):
  """The formula counts causal attention by half; with all logits a step computes the whole."""
  (case,) = step_cases.named(step_cases.tiny(), "decoder")
  model = case.config.model
  model = dataclasses.replace(model, num_decoder_layers=3, scan_layers=scanned)
  case = case._replace(config=dataclasses.replace(case.config, model=model))
  prepared = step_cases.prepare(step_cases.with_attention(case, "xla"))
  found = products.of_step(prepared)
  rows, length, layers = 2, 16, 3
  half_of_attention = 3 * 2 * rows * layers * (length**2 * model.num_heads * model.head_dim * 2) / 2
  flops = sum(product.flops * count for product, count in found.items())
  assert flops == pytest.approx(prepared.step_flops + half_of_attention)
  # Of a layer two gates forward, and the gradient of the hidden activations. As many rows as
  # embedding dimensions: 32.
  assert found[Product(1, model.mlp_dim, 32, 32)] >= 3 * layers


def test_every_library_computes_a_row(monkeypatch):
  monkeypatch.setattr(products, "_ROUNDS", 1)
  taken = products._seconds(Product(2, 8, 4, 8))
  assert {"xla", "eigen"} <= taken.keys() <= {"xla", "eigen", "torch"}
  row = products._with_rates({"gigaflops": 3.0, "count": 2, "xla_seconds": 1.5})
  assert row["xla_rate"] == 2.0
