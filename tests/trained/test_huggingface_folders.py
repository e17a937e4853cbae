"""Hugging Face models: the ids of transformers' tokenizers, and the logits of its models."""

import io
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece
from etils import epath

import t5x_style
from launch import convert
from t5x_style.errors import UserError
from t5x_style.trained import framing, huggingface_folders
from tests.codecs.conftest import HARD

transformers = pytest.importorskip("transformers")
makers = pytest.importorskip("tests.trained.huggingface_tokenizers").TOKENIZERS

# Special tokens that a text spells out are ordinary text here, and special in transformers.
SPELT_OUT = ("</s>", "<extra_id_0>")


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
  """folder_of(name) returns a folder with a tokenizer that transformers saved."""
  made = {}

  def save(name):
    if name not in made:
      made[name] = tmp_path_factory.mktemp("tokenizer")
      makers[name]().save_pretrained(made[name])
    return made[name]

  return save


@pytest.mark.parametrize("name", makers)
def test_text_is_read_as_transformers_reads_it(folder_of, name):
  folder = folder_of(name)
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  codec, template = huggingface_folders.codec_of_folder(epath.Path(folder), "x")
  texts = [text for text in HARD if not any(token in text for token in SPELT_OUT)]
  assert len(texts) > 5
  for text in texts:
    wanted = theirs(text).input_ids
    assert template.around(codec.encode(text)) == wanted, text
    assert codec.decode(codec.encode(text)) == theirs.decode(wanted, skip_special_tokens=True)
  before = {"bert": [2], "bart": [0], "llama with start": [1], "llama with start and end": [1]}
  prompt = framing.decoder_prompt(codec, template, codec.encode("fox"))
  assert prompt == [*before.get(name, []), *codec.encode("fox")]


@pytest.mark.parametrize("name", ["bert", "gpt2", "bart"])
def test_vocab_txt_and_vocab_json_without_tokenizer_json(tmp_path, name):
  theirs = makers[name]()
  if name == "bert":
    pieces = sorted(theirs.get_vocab(), key=theirs.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    # As transformers' default is; a vocabulary with capitals would be taken for one of mixed case.
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
  else:
    theirs.backend_tokenizer.model.save(str(tmp_path))
  codec, template = huggingface_folders.codec_of_folder(epath.Path(tmp_path), "x")
  for text in HARD:
    wanted = theirs.encode(text, add_special_tokens=False)
    if not set(wanted) & set(theirs.all_special_ids):
      assert codec.encode(text) == wanted
  assert template.around(codec.encode("fox")) == theirs("fox").input_ids


def test_a_sentencepiece_model_without_tokenizer_json(tmp_path):
  spiece = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([*HARD[:4], "a quick naïve café"] * 20),
    model_writer=spiece,
    vocab_size=60,
    hard_vocab_limit=False,
    minloglevel=2,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
  )
  (tmp_path / "spiece.model").write_bytes(spiece.getvalue())
  settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 10}
  (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  codec, template = huggingface_folders.codec_of_folder(epath.Path(tmp_path), "x")
  for text in ("the quick  brown\nfox", "a naïve café", ""):
    assert template.around(codec.encode(text)) == theirs(text).input_ids
  assert theirs.convert_ids_to_tokens(codec.sentinel_ids.tolist())[:2] == [
    "<extra_id_0>",
    "<extra_id_1>",
  ]


def test_the_tokenizer_of_byt5(tmp_path):
  transformers.ByT5Tokenizer().save_pretrained(tmp_path)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  codec, template = huggingface_folders.codec_of_folder(epath.Path(tmp_path), "x")
  for text in HARD[:4]:
    assert template.around(codec.encode(text)) == theirs(text).input_ids
  for k in (0, 124):
    assert codec.sentinel_ids[k] == theirs.convert_tokens_to_ids(f"<extra_id_{k}>")
  assert codec.vocab_size == len(theirs)


@pytest.fixture(scope="module")
def saved(folder_of, tmp_path_factory):
  """saved(name) returns (model of transformers, its folder, which holds the tokenizer too)."""
  torch = pytest.importorskip("torch")
  transformers.logging.disable_progress_bar()

  def make(name):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(name)
    shutil.copytree(folder_of(name), folder, dirs_exist_ok=True)
    size = len(transformers.AutoTokenizer.from_pretrained(folder))
    if name == "gpt2":
      config = transformers.GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2)
      model = transformers.GPT2LMHeadModel(config)
    else:
      config = transformers.T5Config(
        vocab_size=size, d_model=32, d_kv=16, num_heads=2, d_ff=64, num_layers=2
      )
      config.decoder_start_token_id = 0
      model = transformers.T5ForConditionalGeneration(config)
    model.eval().save_pretrained(folder)
    return model, folder

  return make


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_models_of_transformers_and_their_imports(saved, name, tmp_path):
  torch = pytest.importorskip("torch")
  theirs, folder = saved(name)
  convert.main(["launch.convert", "--from", f"hf:{folder}", "--to", str(tmp_path / "imported")])
  for path in (f"hf:{folder}", str(tmp_path / "imported")):
    model = t5x_style.load(path)
    assert model.objectives == () and model.step is None
    assert (model.codec.eos_id, model.codec.start_id) == ((0, 0) if name == "gpt2" else (1, 0))
    ids = model.template.around(model.codec.encode("the quick brown fox"))
    if name == "gpt2":
      batch, wanted = {"decoder_input_tokens": [ids]}, theirs(torch.tensor([ids]))
    else:
      batch = {"encoder_input_tokens": [ids], "decoder_input_tokens": [[0, 5, 6]]}
      decoder = torch.tensor([[0, 5, 6]])
      wanted = theirs(input_ids=torch.tensor([ids]), decoder_input_ids=decoder)
    batch = {side: jnp.array(x) for side, x in batch.items()}
    with model.partitioner.context():
      logits = model.model.apply({"params": model.params}, batch).logits()
    np.testing.assert_allclose(logits, wanted.logits.detach().numpy(), atol=2e-5)


def test_what_a_folder_lacks(folder_of, saved, tmp_path):
  with pytest.raises(UserError, match="'.*none' does not exist"):
    t5x_style.load(f"hf:{tmp_path / 'none'}")
  with pytest.raises(UserError, match="holds no config.json"):
    t5x_style.load(f"hf:{folder_of('gpt2')}")
  (tmp_path / "config.json").write_text(
    json.dumps({"model_type": "mamba", "architectures": ["MambaForCausalLM"]})
  )
  with pytest.raises(UserError, match="model_type.*mamba.*llama"):
    t5x_style.load(f"hf:{tmp_path}")
  _, folder = saved("gpt2")
  with pytest.raises(UserError, match="step=3: .* is a Hugging Face model"):
    t5x_style.load(f"hf:{folder}", step=3)
  moved = folder / "tokenizer.json"
  moved.rename(tmp_path / "tokenizer.json")
  with pytest.raises(UserError, match=r"holds no tokenizer\.json, .*save_pretrained\(FOLDER\)"):
    t5x_style.load(f"hf:{folder}")
  shutil.copy(folder / "tokenizer_config.json", tmp_path)
  model = t5x_style.load(f"hf:{folder}", vocabulary=str(tmp_path / "tokenizer.json"))
  assert model.codec.eos_id == 0
