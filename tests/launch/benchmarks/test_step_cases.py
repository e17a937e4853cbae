"""What the step benchmark measures: shipped models in the shapes that the notes name."""

import jax
import pytest

from launch.benchmarks import step_cases
from t5x_style.models import Transformer


def test_targets_follow_from_inputs_as_in_span_corruption():
  assert step_cases._complete({"inputs": 512}, "encoder_decoder") == {"inputs": 512, "targets": 114}
  assert step_cases._complete({"inputs": 128}, "encoder_only") == {"inputs": 128}


@pytest.mark.parametrize(("backend", "times"), [("cpu", 1), ("gpu", 2)])
def test_an_accelerator_alone_gets_twice_the_rows(monkeypatch, backend, times):
  monkeypatch.setattr(step_cases.jax, "default_backend", lambda: backend)
  beside, alone = (step_cases.requested((), (), (), alone) for alone in (False, True))
  rows = [(x.config.batch_size, y.config.batch_size) for x, y in zip(beside, alone, strict=True)]
  assert len(rows) == 3
  assert all(more == times * few for few, more in rows)


@pytest.mark.parametrize(
  ("backend", "expected"),
  [
    (
      "cpu",
      [
        ("T5, 4+4 layers of 512: 8 x (512 + 114) tokens, float32", 29.3e6),
        ("BERT-base: 8 x 128 tokens, float32", 109.5e6),
        ("GPT-2 small: 2 x 512 tokens, float32", 124.4e6),
      ],
    ),
    (
      "gpu",
      [
        ("decoder 1B: 16 x 2,048 tokens, bfloat16", 1.16e9),
        ("T5 1.1 large: 64 x (512 + 114) tokens, bfloat16", 783e6),
        ("BERT-base: 512 x 128 tokens, bfloat16", 109.5e6),
      ],
    ),
  ],
)
def test_shapes_are_those_of_the_notes(monkeypatch, backend, expected):
  """Names, rows, tokens and types as in NOTES.md; parameters as published."""
  monkeypatch.setattr("jax.default_backend", lambda: backend)
  cases = step_cases.known(alone=True)
  assert [case.title for case in cases] == [text for text, _ in expected]
  batch = {
    name: jax.ShapeDtypeStruct((1, 8), "int32")
    for name in ("encoder_input_tokens", "decoder_input_tokens")
  }
  for case, (_, parameters) in zip(cases, expected, strict=True):
    model = Transformer(case.config.model)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)["params"]
    count = sum(x.size for x in jax.tree.leaves(shapes))
    assert count == pytest.approx(parameters, rel=0.01)
    assert not case.config.model.scan_layers and case.config.model.dropout_rate == 0
