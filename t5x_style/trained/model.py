"""TrainedModel: what t5x_style.load returns, with all that it can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from t5x_style.inference.choice import Choice
from t5x_style.inference.embedding import Pooling
from t5x_style.trained import classifying, embedding, filling, generating, scoring
from t5x_style.trained.classifying import Classified
from t5x_style.trained.filled import Filled
from t5x_style.trained.generating import Generated
from t5x_style.trained.loaded_model import LoadedModel
from t5x_style.trained.scores import Score


@dataclasses.dataclass(frozen=True, repr=False)
class TrainedModel(LoadedModel):
  """A trained model, to use; `t5x_style.load` makes it. Its attributes are those of LoadedModel.

  A method starts the function of its name, in a file of its own that takes a LoadedModel.
  """

  def generate(
    self,
    texts: str | Sequence[str],
    *,
    max_new_tokens: int = 64,
    choice: Choice | None = None,
    mode: str | None = None,
    steps: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
  ) -> list[Generated]:
    """Continues texts, or answers them (encoder-decoder), as the model was trained to.

    A model of a prefix LM reads the text in both directions. One of masked diffusion is given
    `max_new_tokens` masks after the text, and replaces them step by step.

        model.generate("def f(", max_new_tokens=20)[0].text
        model.generate(texts, choice=Choice(temperature=0.8, top_p=0.95))

    Args:
      texts: one or several, of any lengths.
      max_new_tokens: of each, EOS included; fewer where learned positions end.
      choice: t5x_style.inference.choice.Choice: temperature, top_k, top_p, beams; None is greedy.
      mode: a mode token of UL2, such as "[S]"; None is the one of this task.
      steps: of masked diffusion; None is one per token.
      batch_size: rows that are decoded at once.
      seed: of the tokens that are drawn.

    Returns:
      What was written after each text, without the text.

    Raises:
      UserError: the model was not trained for it, a text is longer than its learned positions, or
        the mode token is unknown.
    """
    return generating.generate(
      self,
      texts,
      max_new_tokens=max_new_tokens,
      choice=choice,
      mode=mode,
      steps=steps,
      batch_size=batch_size,
      seed=seed,
    )

  def fill(
    self,
    texts: str | Sequence[str],
    *,
    candidates: int = 5,
    choice: Choice | None = None,
    mode: str | None = None,
    max_new_tokens: int = 64,
    steps: int | None = None,
    batch_size: int = 16,
    seed: int = 0,
  ) -> list[Filled]:
    """Fills the holes of texts, by the method that the model was trained for.

    [MASK], <mask> or <extra_id_0>, <extra_id_1> ... stand for a hole, whichever the model was
    trained with. Masked LM puts one token into each hole; span corruption, BART's text infilling
    and UL2 put any number; fill in the middle fills one hole; masked diffusion puts one token into
    each, the surest first, in several steps.

        filled = model.fill("Paris is the [MASK] of France.")[0]
        filled.text, [(c.text, c.probability) for c in filled.holes[0]]

    Args:
      texts: one or several, of any lengths, with one hole or more.
      candidates: how many to return for a hole.
      choice: where a decoder fills the holes: None searches with as many beams as candidates; a
        temperature draws as many; Choice() is greedy and returns one.
      mode: a mode token of UL2, such as "[X]"; None is the one of this task, "[R]".
      max_new_tokens: a decoder writes into all holes of a text.
      steps: of masked diffusion; None is one per token.
      batch_size: rows that are computed at once.
      seed: of the tokens that are drawn.

    Returns:
      Each text with its holes filled, and the candidates of each hole with their probabilities.

    Raises:
      UserError: the model was not trained for it, a text has no hole, too many, or is longer than
        the model's learned positions, or the mode token is unknown.
    """
    return filling.fill(
      self,
      texts,
      candidates=candidates,
      choice=choice,
      mode=mode,
      max_new_tokens=max_new_tokens,
      steps=steps,
      batch_size=batch_size,
      seed=seed,
    )

  def embed(
    self, texts: str | Sequence[str], *, pooling: Pooling | None = None, batch_size: int = 16
  ) -> np.ndarray:
    """Returns a vector of each text: states after the last norm, before the head.

    They are the decoder's in a decoder-only model, otherwise the encoder's. The special tokens of
    the training are around the text, and count as tokens.

    Args:
      texts: one or several, of any lengths.
      pooling: "mean" over all tokens, or the "first" or "last" one. None is "last" for a decoder,
        "first" for an encoder with a head for pairs of sentences, otherwise "mean".
      batch_size: rows that are computed at once.

    Returns:
      float32 [N, D].

    Raises:
      UserError: a text is empty, or longer than the model's learned positions.
    """
    return embedding.embed(self, texts, pooling=pooling, batch_size=batch_size)

  def classify(self, texts: str | Sequence[str], *, batch_size: int = 16) -> list[Classified]:
    """Returns the label of each text, by a model that was fine-tuned for it (classification.gin).

        found = model.classify("some text")[0]
        found.label, found.probability, found.probabilities

    Args:
      texts: one or several, of any lengths; the end of a text that is longer than the rows of the
        training is cut, as there.
      batch_size: rows that are computed at once.

    Returns:
      The likeliest label of each text, and the probabilities of all.

    Raises:
      UserError: the model was not trained to classify, or a text is empty.
    """
    return classifying.classify(self, texts, batch_size=batch_size)

  def score(
    self,
    texts: str | Sequence[str],
    targets: str | Sequence[str] | None = None,
    *,
    method: str | None = None,
    with_eos: bool = False,
    samples: int = 128,
    seed: int = 0,
    batch_tokens: int = 8192,
  ) -> list[Score]:
    """Returns the log-probability of every token of each text, or of each target after its text.

    Each Score says by which method it was made and what its total may be compared with:

      model                      texts                      targets after texts
      decoder-only               causal                     causal; prefix_lm
      encoder-decoder            enc_dec_mask, or           encoder_decoder: the encoder reads the
                                 enc_dec_prefix (BabyLM's)  text, the decoder writes the target
      encoder-only, masked LM    pseudo_log_likelihood, or  none
                                 pseudo_log_likelihood_in_words
      encoder-only, diffusion    diffusion_bound            diffusion_bound

    Decoders score the first token after the start token, or after what the tokenizer puts in front
    of a text (after <|endoftext|> for GPT-2, as lm-evaluation-harness does). Of a target, which
    follows its text directly (spaces belong to it), no token of the text is scored.

        model.score("The cat sits.")[0].total             # nats
        model.score("The cat", " sits.")[0].log_probabilities

    Args:
      texts: one or several; not empty, unless there are targets.
      targets: one for each text.
      method: a name of the table; None takes the first one that fits the model.
      with_eos: whether the end of the text is scored, too.
      samples: random masks of each text, for diffusion_bound. Texts that have no more masks than
        that are scored exactly.
      seed: of these masks.
      batch_tokens: about how many tokens, padding included, are computed at once.

    Raises:
      UserError: a text or target has no token, or is longer than the model's learned positions; the
        model cannot give what is asked for. All texts are checked before any is scored.
    """
    options = scoring.Options(method, with_eos, samples, seed, batch_tokens)
    return list(scoring.score(self, texts, targets, options))
