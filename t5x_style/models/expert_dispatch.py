"""Which row of an expert's input each token is, and how tokens get there and back.

A choice is a pair of a token and one of the K experts that the router chose for it. Choice
k * tokens + t is the k-th choice of token t. The slots are the rows that experts compute: each
expert has a range of them, and a slot holds one choice or nothing.

    expert of each choice   [1, 0, 1, 1]     four tokens, K = 1, two experts
    starts                  [0, 2]           expert 0 has the slots from 0, expert 1 those from 2
    slots                   [2, 0, 3, 4]     the slot of each choice; 4: none, it is dropped
    choices                 [1, 4, 0, 2]     the choice in each slot; 4: none, it is empty

Both directions are kept, so that the forward and the backward pass gather rows and neither has to
add to rows one after the other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Plan(NamedTuple):
  """The slot of each choice, and the choice in each slot; numbers beyond the last mean none."""

  slots: jax.Array  # int32 [choices]
  choices: jax.Array  # int32 [slots]


def plan(
  experts: jax.Array, counts: jax.Array, starts: jax.Array, ends: jax.Array, num_slots: int
) -> Plan:
  """Gives every choice a slot of its expert, in the order of the choices, until they are full.

  Args:
    experts: int32 [choices]; the number of experts or more means that no expert computes it.
    counts: int32 [E], how many choices each expert has.
    starts, ends: int32 [E], the first slot of each expert, and the one after its last. They rise.
    num_slots: of all experts together, and those that none has.
  """
  size = len(counts)
  order = jnp.argsort(experts, stable=True)  # the choices by their experts
  first = jnp.cumsum(counts) - counts  # where an expert's choices begin in this order
  known = jnp.minimum(experts, size - 1)
  slots = jnp.argsort(order) - first[known] + starts[known]
  has_room = (experts < size) & (slots < ends[known])
  slot = jnp.arange(num_slots)
  expert = (starts <= slot[:, None]).sum(1) - 1  # the last one that begins at or before the slot
  place = slot - starts[expert]
  used = (place < counts[expert]) & (slot < ends[expert])
  of_slot = order[jnp.minimum(first[expert] + place, len(order) - 1)]
  return Plan(
    jnp.where(has_room, slots, num_slots).astype(jnp.int32),
    jnp.where(used, of_slot, len(order)).astype(jnp.int32),
  )


def count(experts: jax.Array, size: int) -> jax.Array:
  """Returns how many of the choices [choices] each of `size` experts has, int32 [size]."""
  return (experts[:, None] == jnp.arange(size)).sum(0, dtype=jnp.int32)


def to_slots(x: jax.Array, found: Plan) -> jax.Array:
  """Returns the vectors of the choices in all slots, [slots, D]; zeros where there is none.

  Args:
    x: [tokens, D].
  """
  tokens, none = len(x), found.choices == len(found.slots)
  index = jnp.where(none, tokens, found.choices % tokens)
  return _rows(x, index, found.slots.reshape(-1, tokens))


def from_slots(y: jax.Array, found: Plan, weights: jax.Array) -> jax.Array:
  """Returns the weighted sum [tokens, D] of what the experts made of each token's choices.

  Args:
    y: [slots, D].
    weights: float32 [tokens, K].
  """
  picked = _rows(y, found.slots, found.choices[None])
  picked = picked.reshape(weights.shape[1], weights.shape[0], -1).astype(jnp.float32)
  return (picked * weights.T[..., None]).sum(0).astype(y.dtype)


@jax.custom_vjp
def _rows(x, index, inverse):
  """Returns the rows of x [R, D] at index [Q]; zeros for an index beyond the last row.

  Args:
    inverse: [n, R]: the n places in the result where a row of x may be; Q where it is not.
  """
  del inverse
  return jnp.take(x, index, axis=0, mode="fill", fill_value=0)


def _rows_forward(x, index, inverse):
  return _rows(x, index, inverse), inverse


def _rows_backward(inverse, gradient):
  taken = [jnp.take(gradient, at, axis=0, mode="fill", fill_value=0) for at in inverse]
  total = sum((x.astype(jnp.float32) for x in taken[1:]), taken[0].astype(jnp.float32))
  return total.astype(gradient.dtype), None, None


_rows.defvjp(_rows_forward, _rows_backward)
