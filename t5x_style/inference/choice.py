"""How the next token is chosen from the logits: the likeliest, or one that is drawn."""

import dataclasses

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class Choice:
  """How a continuation is chosen; the default takes the likeliest token each time (greedy).

  Attributes:
    temperature: above 0 draws tokens from softmax(logits / temperature).
    top_k: draws only from the k likeliest tokens (Fan et al. 2018, section 5.4); 0 from all.
    top_p: draws only from the likeliest tokens that together reach this probability (Holtzman et
      al. 2020, section 3.1); 1 from all.
    beams: above 1 searches for likely continuations with this many candidates at a time.
    length_penalty: finished candidates of a search are compared by the sum of their
      log-probabilities divided by length ** length_penalty: above 0 favours longer ones.

  Raises:
    UserError: a value is out of range, or a search is to draw tokens.
  """

  temperature: float = 0.0
  top_k: int = 0
  top_p: float = 1.0
  beams: int = 1
  length_penalty: float = 1.0

  def __post_init__(self):
    for name, wrong, right in (
      ("temperature", not 0 <= self.temperature < float("inf"), "0 (greedy) or a positive number"),
      ("top_k", self.top_k < 0, "0 (all tokens) or a positive number of tokens"),
      ("top_p", not 0 < self.top_p <= 1, "above 0 and at most 1"),
      ("beams", self.beams < 1, "1 or more"),
    ):
      if wrong:
        raise UserError(f"{name} = {getattr(self, name)} must be {right}.")
    restricted = [
      name for name in ("top_k", "top_p") if getattr(self, name) != getattr(Choice, name)
    ]
    if restricted and not self.temperature:
      raise UserError(
        f"{restricted[0]} = {getattr(self, restricted[0])} says what is drawn from, but at "
        "temperature = 0 the likeliest token is taken; set a temperature such as 0.8."
      )
    if self.beams > 1 and self.temperature:
      raise UserError(
        f"beams = {self.beams} searches for the likeliest continuation and temperature = "
        f"{self.temperature} draws one; set one of the two."
      )


def draw(
  logits: jax.Array, keys: jax.Array, temperature: jax.Array, top_k: int, top_p: jax.Array | None
) -> jax.Array:
  """Draws a token for each row.

  Args:
    logits: [B, V], float32.
    keys: [B], a random key for each row.
    temperature: scalar above 0; it is applied before top_k, and top_k before top_p.
    top_k, top_p: as of Choice; top_p None draws from all.

  Returns:
    [B] ids, int32.
  """
  logits = logits / temperature
  if 0 < top_k < logits.shape[-1]:
    logits = _keep(logits, jax.lax.top_k(logits, top_k)[0][:, -1:])
  if top_p is not None:
    falling = -jnp.sort(-logits, axis=-1)
    shares = jax.nn.softmax(falling)
    before = jnp.cumsum(shares, axis=-1) - shares
    logits = _keep(logits, jnp.where(before < top_p, falling, jnp.inf).min(-1, keepdims=True))
  return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def _keep(logits, least):
  """Hides the logits [B, V] that are below the least one to keep [B, 1]."""
  return jnp.where(logits < least, -jnp.inf, logits)
