"""Which methods of scoring fit a model: by its architecture and by what it was trained for."""

from __future__ import annotations

from t5x_style.errors import UserError
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.scores import METHODS, Method

_CAUSAL = {"causal_lm", "fill_in_middle"}
_HIDES = {"span_corruption", "text_infilling"}


def choose_method(model: LoadedModel, name: str | None, has_targets: bool) -> Method:
  """Returns the method of this name, or the one that is the default for the model.

  Raises:
    UserError: it does not fit the model, or nothing does.
  """
  if name is not None and name not in METHODS:
    raise UserError(f"method={name!r} is unknown; the methods are {', '.join(METHODS)}.")
  fitting = fitting_methods(model, has_targets)
  if not fitting:
    raise UserError(_why_none(model, has_targets))
  if name is None:
    return METHODS[fitting[0]]
  if name not in fitting:
    what = "targets after texts" if has_targets else "texts alone"
    raise UserError(
      f"method={name!r} does not fit: {_described(model)} scores {what} by {' or '.join(fitting)}."
    )
  return METHODS[name]


def fitting_methods(model: LoadedModel, has_targets: bool) -> list[str]:
  """Returns the names of the methods that fit a model, the default first."""
  names = {component.get("objective") for component in model.objectives}
  if model.config.architecture == "decoder_only":
    return _of_decoder(names, "inputs" in model.row_lengths)
  if model.config.architecture == "encoder_decoder":
    if has_targets:
      return ["encoder_decoder"]
    hides = not names or names & _HIDES
    return ["enc_dec_mask"] * bool(hides) + ["enc_dec_prefix"] * bool(hides or "prefix_lm" in names)
  diffusion = "masked_diffusion" in names
  if has_targets or not _predicts_masks(model):
    return ["diffusion_bound"] * diffusion
  masked = ["pseudo_log_likelihood", "pseudo_log_likelihood_in_words"]
  return ["diffusion_bound", *masked] if diffusion else masked


def _of_decoder(names, tasks_have_inputs: bool) -> list[str]:
  """Returns the methods for a decoder-only model; tasks of the user have no objective, but None."""
  prefix = bool(names - _CAUSAL - {None}) or (None in names and tasks_have_inputs)
  causal = not names or bool(names & _CAUSAL) or (None in names and not tasks_have_inputs)
  return ["causal"] * causal + ["prefix_lm"] * prefix


def _predicts_masks(model: LoadedModel) -> bool:
  """Returns whether an encoder has a head; Hugging Face models without one have no transform."""
  return model.template is None or model.config.head_transform


def _why_none(model: LoadedModel, has_targets: bool) -> str:
  if model.config.architecture == "encoder_only":
    if not _predicts_masks(model):
      return (
        f"{model.path} has no head that predicts tokens, so it cannot score texts; load the model "
        "for masked language modelling (BertForMaskedLM and so on)."
      )
    return (
      f"{_described(model)} gives no probability of a target after a text: call score(texts) "
      "without targets, for pseudo-log-likelihoods."
    )
  return (
    f"{_described(model)} gives no probability of a text alone: call score(texts, targets), where "
    "texts are what the encoder reads."
  )


def _described(model: LoadedModel) -> str:
  names = dict.fromkeys(component.get("objective") or "tasks" for component in model.objectives)
  trained = f" trained for {', '.join(names)}" if names else ""
  return f"{model.path} ({model.config.architecture}{trained})"
