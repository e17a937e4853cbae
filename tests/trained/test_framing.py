"""What is put around the ids of a text."""

import pytest

from t5x_style.codecs.byte_codec import ByteCodec
from t5x_style.trained import framing
from t5x_style.trained.framing import Template


def test_prompts_of_decoders_are_never_empty():
  codec = ByteCodec(3)
  codec.start_id = 7
  assert framing.decoder_prompt(codec, None, [5, 6]) == [7, 5, 6]
  assert framing.decoder_prompt(codec, None, []) == [7]
  assert framing.decoder_prompt(codec, Template((1,), (2,)), [5]) == [1, 5]
  assert framing.decoder_prompt(codec, Template(), []) == [7]
  assert Template((1,), (2, 3)).around([5]) == [1, 5, 2, 3]


def test_the_template_is_the_tokenizers():
  tokenizers = pytest.importorskip("tokenizers")
  model = tokenizers.models.BPE({"a": 0, "<s>": 1, "</s>": 2}, [])
  tokenizer = tokenizers.Tokenizer(model)
  assert framing.template_of(tokenizer) == Template()
  tokenizer.add_special_tokens(["<s>", "</s>"])
  tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
    single="<s> <s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
  )
  assert framing.template_of(tokenizer) == Template((1, 1), (2,))
