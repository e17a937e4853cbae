"""What is drawn from, against the definitions, and settings that cannot work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.inference.choice import Choice, draw

PROBABILITIES = np.array([0.05, 0.4, 0.15, 0.3, 0.1], np.float32)


@pytest.mark.parametrize(
  ("temperature", "top_k", "top_p", "expected"),
  [
    (1.0, 0, None, PROBABILITIES),
    (1.0, 2, None, [0, 4 / 7, 0, 3 / 7, 0]),
    # The likeliest that together reach 0.75: 0.4 + 0.3 do not, so 0.15 belongs to them.
    (1.0, 0, 0.75, [0, 0.4 / 0.85, 0.15 / 0.85, 0.3 / 0.85, 0]),
    (1.0, 0, 0.01, [0, 1, 0, 0, 0]),
    # Of the two likeliest, renormalised to 4/7 and 3/7, the first reaches 0.5.
    (1.0, 2, 0.5, [0, 1, 0, 0, 0]),
    # Squared: 0.16, 0.09 and 0.0225 of 0.285; two of them reach 0.85, one does not.
    (0.5, 0, 0.85, [0, 0.64, 0, 0.36, 0]),
  ],
)
def test_shares_of_many_draws(temperature, top_k, top_p, expected):
  rows = 20000
  logits = jnp.tile(jnp.log(PROBABILITIES) + 3.0, (rows, 1))
  keys = jax.random.split(jax.random.key(1), rows)
  drawn = draw(logits, keys, jnp.float32(temperature), top_k, top_p)
  shares = np.bincount(np.asarray(drawn), minlength=5) / rows
  np.testing.assert_allclose(shares, expected, atol=0.015)  # 4 sigma
  assert (shares[np.array(expected) == 0] == 0).all()


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"temperature": -1}, "temperature = -1 must be 0"),
    ({"temperature": float("nan")}, "temperature = nan must be"),
    ({"top_k": -2, "temperature": 1}, "top_k = -2 must be"),
    ({"top_p": 0, "temperature": 1}, "top_p = 0 must be above 0"),
    ({"top_p": 1.5, "temperature": 1}, "top_p = 1.5 must be"),
    ({"beams": 0}, "beams = 0 must be 1 or more"),
    ({"top_p": 0.9}, "top_p = 0.9 says what is drawn from, .* set a temperature"),
    ({"beams": 4, "temperature": 0.5}, "beams = 4 searches .* set one of the two"),
  ],
)
def test_settings_that_cannot_work(settings, message):
  with pytest.raises(UserError, match=message):
    Choice(**settings)
