"""A trained model, to use: `model = t5x_style.load(PATH)`; see loading.load and model.TrainedModel.

Loading:
  loading.py              load: a MODEL_DIR, one step, an average, an import, or "hf:FOLDER"
  loaded_model.py         LoadedModel: parameters, vocabulary, objectives; model.py adds the methods
  checkpoint_folders.py   reads the checkpoints of this package's runs
  huggingface_folders.py  reads Hugging Face models, also those that launch.convert imported
  run_vocabularies.py     finds the vocabulary of a run
  unrolled_layers.py      takes scanned layers apart, which makes writing faster
From texts to rows of ids:
  abilities.py            which tasks the objectives of a training taught, and by which method
  framing.py, prompts.py  what is put around a text; rows as the objective made them in training
  holes.py                the holes of a text; word_starts.py: where its words begin
The methods:
  generating.py           .generate; writing.py calls the decoder for it and for .fill
  filling.py              .fill, by decoder_filling.py or encoder_filling.py; filled.py: results
  scoring.py              .score: scoring_methods.py chooses how, scoring_rows.py and
                          scoring_frames.py make the rows, scores.py has the results
  multiple_choice.py      ranks what may be in a hole, whatever the model was trained for
  embedding.py, classifying.py   .embed and .classify
  evaluation_harness.py   models for lm-evaluation-harness (pip install 't5x_style[lm_eval]')
No gin and no TensorFlow is needed: the checkpoint and MODEL_DIR/vocabulary say what the model is.
"""
