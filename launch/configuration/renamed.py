"""Former names of what gin files bind, and today's: files of earlier versions can still be read.

A MODEL_DIR's config.gin names functions and classes, and so do users' own files. When one of them
is renamed or moved, add a line to FORMER_NAMES.
"""

from collections.abc import Iterable

_DATA = "t5x_style.data"
_TRAINING = "t5x_style.training"

# {former name: today's}, each with its module.
FORMER_NAMES = {
  f"{_TRAINING}.run.Run": f"{_TRAINING}.train_config.TrainConfig",
  f"{_TRAINING}.step.LossOptions": f"{_TRAINING}.loss.LossOptions",
  f"{_DATA}.causal_lm.CausalLM": f"{_DATA}.objectives.causal_lm.CausalLM",
  f"{_DATA}.fill_in_middle.FillInMiddle": f"{_DATA}.objectives.fill_in_middle.FillInMiddle",
  f"{_DATA}.masked_diffusion.MaskedDiffusion": (
    f"{_DATA}.objectives.masked_diffusion.MaskedDiffusion"
  ),
  f"{_DATA}.masked_lm.MaskedLM": f"{_DATA}.objectives.masked_lm.MaskedLM",
  f"{_DATA}.mixture.Mixture": f"{_DATA}.objectives.mixture.Mixture",
  f"{_DATA}.prefix_lm.PrefixLM": f"{_DATA}.objectives.prefix_lm.PrefixLM",
  f"{_DATA}.sentence_pairs.NextSentence": f"{_DATA}.objectives.next_sentence.NextSentence",
  f"{_DATA}.sentence_pairs.SentenceOrder": f"{_DATA}.objectives.sentence_order.SentenceOrder",
  f"{_DATA}.span_corruption.SpanCorruption": f"{_DATA}.objectives.span_corruption.SpanCorruption",
  f"{_DATA}.text_infilling.TextInfilling": f"{_DATA}.objectives.text_infilling.TextInfilling",
  f"{_DATA}.ul2.UL2": f"{_DATA}.objectives.ul2.UL2",
  f"{_DATA}.ul2.UL2Short": f"{_DATA}.objectives.ul2.UL2Short",
  f"{_DATA}.huggingface_tokenizers.hf_tokenizer": (
    f"{_DATA}.tokenizers.huggingface_tokenizers.hf_tokenizer"
  ),
  f"{_DATA}.vocabularies.byte_vocabulary": f"{_DATA}.tokenizers.vocabularies.byte_vocabulary",
  f"{_DATA}.vocabularies.sentencepiece": f"{_DATA}.tokenizers.vocabularies.sentencepiece",
}
# Modules that no longer exist under these names, or no longer contain what they did.
FORMER_MODULES = {name.rpartition(".")[0] for name in FORMER_NAMES}


def today(module: str, name: str) -> tuple[str, str] | None:
  """Returns the module and the name that `name` of a former module has today, or None."""
  found = FORMER_NAMES.get(f"{module}.{name}")
  if found is None:
    return None
  module, _, name = found.rpartition(".")
  return module, name


def today_on_command_line(selector: str, bound: Iterable[str]) -> str:
  """Returns a selector of the command line, such as "run.Run", under its name of today.

  Args:
    bound: the selectors that the files bind. What one of them may mean is not renamed.
  """
  if any(f".{name}".endswith(f".{selector}") for name in bound):
    return selector
  found = {new for old, new in FORMER_NAMES.items() if f".{old}".endswith(f".{selector}")}
  return ".".join(found.pop().rsplit(".", 2)[1:]) if len(found) == 1 else selector
