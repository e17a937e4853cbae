"""Which layers of a checkpoint the layers of a deeper or a shallower model begin as."""

from t5x_style.errors import UserError
from t5x_style.setting_types import LayerRule


def source_layers(rule: LayerRule, count: int, saved: int, side: str) -> list[int]:
  """Returns, for each layer of a model, the layer of the checkpoint that it begins as.

  With as many layers as the checkpoint has, every rule keeps all of them. Otherwise:

  interpolate  3 -> 6: 0 0 1 1 2 2. Each layer is repeated in its place (Chang et al. 2018).
               12 -> 6: 0 2 4 7 9 11. Layers at equal distances, with the first and the last one
               (DistilBERT, Sanh et al. 2019, section 3).
  stack        3 -> 6: 0 1 2 0 1 2. Whole copies (Gong et al. 2019; G_stack, Du et al. 2024).
               12 -> 6: 0 1 2 3 4 5. The last ones are dropped (Sajjad et al. 2020, section 3.1).
  solar        32 -> 48: 0 ... 23 8 ... 31. Two copies, without the last layers of the first and
               the first layers of the second one (SOLAR, Kim et al. 2023, section 2).

  Args:
    count, saved: the layers of the model and of the checkpoint.
    side: "encoder" or "decoder", for the message.

  Raises:
    UserError: the rule does not say which of the layers are kept, or repeated.
  """
  if count == saved:
    return list(range(count))
  if rule == "interpolate":
    if count > saved:
      return [i * saved // count for i in range(count)]
    return [round(i * (saved - 1) / max(count - 1, 1)) for i in range(count)]
  if rule == "stack" and (count < saved or count % saved == 0):
    return [i % saved for i in range(count)]
  if rule == "solar" and saved < count <= 2 * saved and count % 2 == 0:
    half = count // 2
    return [*range(half), *range(saved - half, saved)]
  needs = {
    "stack": f"a multiple of {saved}, or fewer",
    "solar": f"an even number above {saved} and up to {2 * saved}",
  }
  raise UserError(
    f'INITIAL_CHECKPOINT_ADAPT = "{rule}": the checkpoint has {saved} layers and the {side} '
    f'{count}. This rule needs {needs[rule]}; "interpolate" takes any number.'
  )
