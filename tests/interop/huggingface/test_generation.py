"""What imported models write, token for token against `generate` of transformers."""

import jax
import numpy as np
import pytest

from t5x_style.inference.choice import Choice
from t5x_style.inference.generation import generate
from t5x_style.models import Transformer
from t5x_style.partitioning import Partitioner, make_mesh
from t5x_style.trained import checkpoint_folders, huggingface_folders

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VOCABULARY, END, NEW = 61, 7, 12
FAMILIES = {
  "t5": lambda: transformers.T5Config(
    vocab_size=VOCABULARY,
    d_model=32,
    d_kv=8,
    d_ff=48,
    num_layers=2,
    num_heads=4,
    feed_forward_proj="gated-gelu",
    tie_word_embeddings=False,
    relative_attention_num_buckets=8,
    relative_attention_max_distance=12,
    decoder_start_token_id=0,
  ),
  "gpt2": lambda: transformers.GPT2Config(
    vocab_size=VOCABULARY, n_positions=40, n_embd=32, n_layer=2, n_head=4
  ),
  "llama": lambda: transformers.LlamaConfig(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
  ),
  "qwen3": lambda: transformers.Qwen3Config(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
  ),
  "bart": lambda: transformers.BartConfig(
    vocab_size=VOCABULARY,
    d_model=32,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
    max_position_embeddings=40,
    decoder_start_token_id=2,
    forced_bos_token_id=None,
    forced_eos_token_id=None,
  ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def models(request, tmp_path_factory):
  """Returns (PyTorch's model, ours, its parameters), of the same random weights."""
  torch.manual_seed(3)
  config = FAMILIES[request.param]()
  config.eos_token_id, config.pad_token_id = END, 0
  has_encoder = config.is_encoder_decoder
  kind = transformers.AutoModelForSeq2SeqLM if has_encoder else transformers.AutoModelForCausalLM
  theirs = kind.from_config(config).eval()
  with torch.no_grad():  # Initial weights are so small that one token would be written for ever.
    for name, x in theirs.named_parameters():
      if x.ndim > 1 and "relative" not in name:
        x.normal_(0.0, 0.5)
  theirs.generation_config.eos_token_id, theirs.generation_config.pad_token_id = END, 0
  folder = tmp_path_factory.mktemp(request.param)
  theirs.save_pretrained(folder)
  ours = huggingface_folders.config_of_folder(folder)
  partitioner = Partitioner(make_mesh(None, jax.devices()[:1]))
  abstract = checkpoint_folders.abstract_params(ours, partitioner)
  params = huggingface_folders.read_params(f"hf:{folder}", ours, abstract)
  return theirs, Transformer(ours), params


def rows(count, longest):
  random = np.random.default_rng(5)
  lengths = random.integers(1, longest + 1, count)
  return [random.integers(8, VOCABULARY, length).tolist() for length in lengths]


def their_tokens(theirs, row, **options):
  """Returns what transformers writes after one row, with its EOS."""
  ids = torch.tensor([row])
  options = {"do_sample": False, "max_new_tokens": NEW, **options}
  out = theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)[0].tolist()
  new = out[1:] if theirs.config.is_encoder_decoder else out[len(row) :]
  return new[: new.index(END) + 1] if END in new else new


def our_tokens(models, all_rows, choice=None):
  theirs, model, params = models
  options = {"max_new_tokens": NEW, "eos_id": END, "pad_id": -1, "choice": choice}
  if theirs.config.is_encoder_decoder:
    starts = [[theirs.config.decoder_start_token_id]] * len(all_rows)
    found = generate(model, params, starts, encoder_inputs=all_rows, **options)
  else:
    found = generate(model, params, all_rows, **options)
  return [x.tokens.tolist() for x in found]


def test_greedy_decoding(models):
  all_rows = rows(12, longest=24)
  expected = [their_tokens(models[0], row) for row in all_rows]
  assert our_tokens(models, all_rows) == expected
  assert len({token for tokens in expected for token in tokens}) > 5  # Not one token for ever.


@pytest.mark.parametrize(
  ("beams", "penalty"),
  [(4, 1.0), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((3, 0.0), (2, 2.0)))],
)
def test_beam_search(models, beams, penalty):
  all_rows = rows(6, longest=16)
  options = {"num_beams": beams, "length_penalty": penalty, "early_stopping": False}
  expected = [their_tokens(models[0], row, **options) for row in all_rows]
  assert our_tokens(models, all_rows, Choice(beams=beams, length_penalty=penalty)) == expected
