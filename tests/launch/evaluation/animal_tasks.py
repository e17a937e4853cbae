"""SeqIO tasks as a user writes them: words in capitals, and which of two answers is right."""

import seqio
import tensorflow as tf

WORDS = ("cat", "horse", "ox", "mouse", "zebra", "emu")
VOCABULARY = seqio.ByteVocabulary(extra_ids=125)
OTHER = seqio.ByteVocabulary(extra_ids=10)


def _capitals(split, shuffle_files, seed=None):
  return tf.data.Dataset.from_tensor_slices(
    {"inputs": [f"{word}:" for word in WORDS], "targets": [word.upper() for word in WORDS]}
  )


def _choices(split, shuffle_files, seed=None):
  pairs = [(word, choice) for word in WORDS for choice in (word.upper(), word[::-1].upper())]
  return tf.data.Dataset.from_tensor_slices(
    {
      "inputs": [f"{word}:" for word, _ in pairs],
      "targets": [choice for _, choice in pairs],
      "right": [word.upper() == choice for word, choice in pairs],
    }
  )


def exact_match(targets, predictions):
  same = [target == prediction for target, prediction in zip(targets, predictions, strict=True)]
  return {"exact_match": sum(same) / len(same)}


def confidence(targets, predictions, aux_values):
  return {"mean_log_probability": sum(aux_values["scores"]) / len(targets)}


def best_choice(targets, scores):
  """The share of words whose right choice is the likelier one; targets are (text, right)."""
  pairs = list(zip(targets, scores, strict=True))
  found = [max(pairs[i : i + 2], key=lambda pair: pair[1])[0][1] for i in range(0, len(pairs), 2)]
  return {"accuracy": sum(found) / len(found), "sum": float(sum(scores))}


def with_label(text, example, is_target):
  return (text, bool(example["right"])) if is_target else text


def add(name, source, metrics, postprocess=None, vocabulary=VOCABULARY):
  seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(source, splits=["train", "validation"]),
    preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
    output_features={
      "inputs": seqio.Feature(vocabulary, add_eos=False),
      "targets": seqio.Feature(vocabulary, add_eos=True),
    },
    postprocess_fn=postprocess,
    metric_fns=metrics,
  )


add("capitals", _capitals, [exact_match, confidence])
add("choices", _choices, [best_choice], with_label)
add("other_vocabulary", _capitals, [exact_match], vocabulary=OTHER)
add("without_metric", _capitals, [])
seqio.MixtureRegistry.add("both", ["capitals", "choices"], default_rate=1.0)
