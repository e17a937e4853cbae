"""What a model reads of a text is what its objective fed it in training, to the id."""

import numpy as np
import pytest
import tensorflow as tf

from t5x_style.data import converters, iterator, map_options
from t5x_style.data.objectives.causal_lm import CausalLM
from t5x_style.data.objectives.fill_in_middle import FillInMiddle
from t5x_style.data.objectives.masked_diffusion import MaskedDiffusion
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.prefix_lm import PrefixLM
from t5x_style.data.objectives.span_corruption import SpanCorruption
from t5x_style.data.objectives.text_infilling import TextInfilling
from t5x_style.data.objectives.text_to_text import TextToText
from t5x_style.data.tokenizers import vocabularies
from t5x_style.errors import UserError
from t5x_style.trained import prompts
from t5x_style.trained.abilities import ability_for
from tests.trained.random_models import trained

TEXT = "import os\n\ndef area(self):\n    return self.width * self.height\n" * 12


def batches(objective, architecture, codec):
  """What training feeds the model of the text above: {feature: array [rows, length]}."""
  vocabulary = vocabularies.sentencepiece()
  decoder_only = architecture == "decoder_only"
  lengths = objective.lengths({"targets": 40} if decoder_only else {"inputs": 40}, architecture)

  @map_options.as_written
  def rows():
    document = {"targets": [codec.encode(TEXT)], "noise_seed": np.zeros((1, 2), np.int64)}
    documents = tf.data.Dataset.from_tensor_slices(document).map(
      lambda x: {"targets": tf.cast(x["targets"], tf.int32), "noise_seed": x["noise_seed"]}
    )
    made = objective.preprocessor(vocabulary, lengths, architecture)(documents).batch(99)
    return made.map(lambda row: converters.convert(row, architecture, lengths))

  (found,) = iterator.with_options(rows()).as_numpy_iterator()
  return found


def parts_of(ids, holes):
  """Splits ids at holes: [1, 2, hole, 3] -> [[1, 2], [3]]."""
  parts = [[]]
  for i in map(int, ids):
    if i in holes:
      parts.append([])
    else:
      parts[-1].append(i)
  return parts


def as_text(codec, ids, holes):
  """Returns ids as a text with [MASK] for each hole; None if the text has other ids."""
  parts = parts_of(ids, holes)
  texts = [codec.decode_visible(part) for part in parts]
  same = all(codec.encode(text) == part for text, part in zip(texts, parts, strict=True))
  # A space before a hole would be a part of it.
  ambiguous = any(text.endswith(" ") for text in texts[:-1])
  return "[MASK]".join(texts) if same and not ambiguous else None


def check(model, task, objective, framed_text, features, side):
  """Compares prompts with rows of training; returns how many were compared.

  Args:
    framed_text: ids -> (what is around the text is left out).
    features: of training.
    side: what is read first.
  """
  codec = model.codec
  ability = ability_for(model, task)
  special = [codec.special_id("[MASK]"), *codec.sentinel_ids.tolist()]
  compared = 0
  for row in range(len(features[f"{side}_input_tokens"])):
    read = features[f"{side}_input_tokens"][row]
    if "decoder_causal_attention" in features:
      read = read[features["decoder_causal_attention"][row] > 0]
    ids = framed_text(read.tolist())
    text = as_text(codec, ids, special) if ids is not None else None
    if text is None or (task == "fill") != ("[MASK]" in text):
      continue
    if task == "fill":
      prompt = prompts.filled(model, ability, text, None)
    else:
      prompt = prompts.continued(model, ability, text, None, 8)
    wanted = np.trim_zeros(read, "b").tolist()
    assert list(getattr(prompt, side))[: len(wanted)] == wanted
    compared += 1
  return compared


def without_padding(ids):
  return np.trim_zeros(np.array(ids), "b").tolist()


@pytest.mark.parametrize(
  ("objective", "architecture", "task", "framed_text"),
  [
    (SpanCorruption(), "encoder_decoder", "fill", lambda x: without_padding(x)[:-1]),
    (SpanCorruption(mode="[X]"), "decoder_only", "fill", lambda x: x[2:-1]),
    (MaskedLM(mask_share=1.0, random_share=0.0), "encoder_only", "fill", lambda x: x[1:-1]),
    (PrefixLM(mode="[S]"), "decoder_only", "continue", lambda x: x[2:]),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in (
        (SpanCorruption(mode="[R]"), "encoder_decoder", "fill", lambda x: without_padding(x)[1:-1]),
        (TextInfilling(), "encoder_decoder", "fill", lambda x: without_padding(x)[:-1]),
        (MaskedDiffusion(), "encoder_only", "fill", without_padding),
        (PrefixLM(), "encoder_decoder", "continue", lambda x: without_padding(x)[:-1]),
      )
    ),
  ],
)
def test_texts_are_read_as_in_training(objective, architecture, task, framed_text):
  model = trained(architecture, objective.identity())
  features = batches(objective, architecture, model.codec)
  side = "decoder" if architecture == "decoder_only" else "encoder"
  assert check(model, task, objective, framed_text, features, side) >= 2


@pytest.mark.parametrize("both_ways", [True, False])
def test_a_decoder_answers_after_the_end_of_the_text(both_ways):
  """It reads what comes before the first target that carries loss in training: see TextToText."""
  objective = TextToText(bidirectional_inputs=both_ways)
  model = trained("decoder_only", objective.identity())
  ability = ability_for(model, "continue")
  assert ability.both_ways == both_ways
  text, target = model.codec.encode("two plus two"), model.codec.encode("four")
  document = {"targets": [text], "target_tokens": [target]}
  documents = tf.data.Dataset.from_tensor_slices(document)
  lengths = {"inputs": 20, "targets": 12}
  make = objective.preprocessor(vocabularies.sentencepiece(), lengths, "decoder_only")
  (row,) = converters_rows(make(documents), lengths)
  first = int(np.argmax(row["decoder_loss_weights"] > 0))
  prompt = prompts.continued(model, ability, "two plus two", None, 8)
  assert list(prompt.decoder) == row["decoder_input_tokens"][: first + 1].tolist()


def converters_rows(examples, lengths):
  """Returns the rows of a decoder that a pipeline makes of examples which do not share rows."""
  padded = examples.padded_batch(1, {name: [length] for name, length in lengths.items()})
  rows = padded.map(lambda batch: converters.convert(batch, "decoder_only", lengths))
  return [{k: v[0] for k, v in row.items()} for row in rows.as_numpy_iterator()]


def test_a_decoder_continues_from_the_start_of_a_row():
  model = trained("decoder_only", "causal_lm")
  read = batches(CausalLM(), "decoder_only", model.codec)["decoder_input_tokens"][0][:9]
  text = model.codec.decode_visible(read[1:])
  prompt = prompts.continued(model, ability_for(model, "continue"), text, None, 8)
  assert list(prompt.decoder) == read.tolist() and prompt.encoder == ()


def test_the_middle_is_filled_in_the_order_of_training():
  model = trained("decoder_only", "fill_in_middle")
  codec = model.codec
  rows = batches(FillInMiddle(rate=1.0, spm_share=0.0), "decoder_only", codec)
  pre, suf, mid = (codec.special_id(x) for x in ("[PRE]", "[SUF]", "[MID]"))
  compared = 0
  for row in rows["decoder_input_tokens"].tolist():
    read = row[: row.index(mid) + 1] if mid in row else []
    text = as_text(codec, read[2:-1], {suf})
    if text is not None and read[:2] == [0, pre]:
      prompt = prompts.filled(model, ability_for(model, "fill"), text, None)
      assert list(prompt.decoder) == read
      compared += 1
  assert compared >= 2


def test_a_decoder_is_given_the_first_sentinel():
  model = trained("encoder_decoder", "span_corruption")
  prompt = prompts.filled(model, ability_for(model, "fill"), "a [MASK] b [MASK]", None)
  assert list(prompt.decoder) == [0, model.codec.sentinel_ids[0]]


def test_what_does_not_fit_is_refused():
  spans = trained("encoder_decoder", "span_corruption")
  fill = ability_for(spans, "fill")
  with pytest.raises(UserError, match="The text has 129 holes, and the vocabulary has 128"):
    prompts.filled(spans, fill, "a[MASK]" * 129, None)
  middle = trained("decoder_only", "fill_in_middle", positions="learned", max_length=16)
  fill = ability_for(middle, "fill")
  with pytest.raises(UserError, match="has 2 holes: this model fills one"):
    prompts.filled(middle, fill, "a [MASK] b [MASK]", None)
  with pytest.raises(UserError, match=r"too long: it has 23 tokens .* model has 16 learned"):
    prompts.filled(middle, fill, "0 " * 10 + "[MASK]", None)
  diffusion = trained("encoder_only", "masked_diffusion", positions="learned", max_length=16)
  with pytest.raises(UserError, match="too long: it has 17 tokens with its special tokens and mas"):
    prompts.continued(diffusion, ability_for(diffusion, "continue"), "a", None, 16)
  with pytest.raises(UserError, match="3 is no text"):
    prompts.of_texts([3], lambda x: prompts.embedded(spans, ability_for(spans, "embed"), x))
