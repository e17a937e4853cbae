"""A folder that launch.convert wrote, in a transformers pipeline."""

import numpy as np
import pytest

from launch import convert
from launch.configuration.gin_values import GinValues
from launch.conversion import model_gin
from t5x_style.checkpoints.array_writer import ArrayWriter

RUNS = {
  "text-generation": "include 'models/decoder_only_mini.gin'",
  "fill-mask": "include 'models/bert/base.gin'\nVOCAB_SIZE = 8320",
}


@pytest.mark.slow
@pytest.mark.parametrize("task", RUNS)
def test_an_exported_run_in_a_pipeline(task, tmp_path, monkeypatch, draw_parameters):
  pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  monkeypatch.chdir(tmp_path)
  text = f"{RUNS[task]}\ninclude 'data/vocabulary.gin'\n"
  (tmp_path / "run.gin").write_text(text)
  sizes = ["emb_dim = 64", "mlp_dim = 64", "num_heads = 2", "head_dim = 32"]
  layers = "num_decoder_layers" if task == "text-generation" else "num_encoder_layers"
  bindings = [f"config.TransformerConfig.{x}" for x in [*sizes, f"{layers} = 2"]]
  config = model_gin.transformer_config(GinValues(["run.gin"], bindings))
  arrays = draw_parameters(config)
  writer = ArrayWriter(tmp_path / "model_dir" / "checkpoints" / "3")
  for keys, x in arrays.items():
    writer.create(("params", *keys), x.shape, x.shape, x.dtype)[...] = x
  writer.close()
  convert.main(
    ["launch.convert", "--from=model_dir", "--to=hf:out", "--gin_file=run.gin"]
    + [f"--gin_bindings={binding}" for binding in bindings]
  )
  model_class = transformers.AutoModelForCausalLM
  if task == "fill-mask":
    model_class = transformers.AutoModelForMaskedLM
  tokenizer = transformers.AutoTokenizer.from_pretrained("out")
  model = model_class.from_pretrained("out").eval()
  pipe = transformers.pipeline(task, model=model, tokenizer=tokenizer)
  if task == "fill-mask":
    found = pipe("def f([MASK]):")
    assert len(found) == 5 and all(np.isfinite(x["score"]) for x in found)
    return
  assert tokenizer("import os").input_ids[0] == 0  # The first input of decoders here.
  (found,) = pipe("import os", max_new_tokens=5, do_sample=False)
  assert found["generated_text"].startswith("import os")
  assert len(found["generated_text"]) > len("import os")
