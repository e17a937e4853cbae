"""A trained model, to use: `model = t5x_style.load(PATH)`; see loading.load and model.TrainedModel.

  loading.py              load: a MODEL_DIR, one step, an average, an import, or "hf:FOLDER"
  model.py                TrainedModel, whose methods each have a file here
  loaded_model.py         LoadedModel, what those files get: parameters, vocabulary, objectives
  abilities.py            which tasks the objectives of a training taught, and by which method
  scoring.py              TrainedModel.score; scores.py: what it returns, and what that means
  evaluation_harness.py   models for lm-evaluation-harness (pip install 't5x_style[lm_eval]')
  framing.py              what is put around the ids of a text: start, EOS, [CLS] ... [SEP]
  checkpoint_folders.py   reads the checkpoints of this package's runs
  unrolled_layers.py      takes scanned layers apart, which makes writing faster
  run_vocabularies.py     finds the vocabulary of a run
  huggingface_folders.py  reads Hugging Face models, also those that launch.convert imported
No gin and no TensorFlow is needed: the checkpoint and MODEL_DIR/vocabulary say what the model is.
"""
