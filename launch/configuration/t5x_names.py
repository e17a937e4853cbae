"""T5X's names of settings, and what stands for them here.

T5X's names are those of its gin files t5x/configs/runs/*.gin and t5x/examples/*, at the commit of
its last release on GitHub; a parameter is written with the class it belongs to, "T5Config.emb_dim".
"""

from collections.abc import Mapping

# Macros that mean the same in both.
SAME = (
  "BATCH_SIZE",
  "DROPOUT_RATE",
  "EVAL_PERIOD",
  "INITIAL_CHECKPOINT_PATH",
  "LABEL_SMOOTHING",
  "LOSS_NORMALIZING_FACTOR",
  "MIXTURE_OR_TASK_MODULE",
  "MIXTURE_OR_TASK_NAME",
  "MODEL_DIR",
  "RANDOM_SEED",
  "TASK_FEATURE_LENGTHS",
  "TRAIN_STEPS",
  "Z_LOSS",
)

# {T5X's name: the macro or parameter that stands for it, with the same value}
RENAMED: Mapping[str, str] = {
  **{name: name for name in SAME},
  "EVAL_STEPS": "EVAL_BATCHES",
  "train.total_steps": "TRAIN_STEPS",
  "train.eval_steps": "EVAL_BATCHES",
  "train.eval_period": "EVAL_PERIOD",
  "train.stats_period": "LOG_PERIOD",
  "train.random_seed": "RANDOM_SEED",
  "train.model_dir": "MODEL_DIR",
  "SaveCheckpointConfig.period": "SAVE_PERIOD",
  "SaveCheckpointConfig.keep": "KEEP_CHECKPOINTS",
  "RestoreCheckpointConfig.path": "INITIAL_CHECKPOINT_PATH",
  "Trainer.num_microbatches": "NUM_MICROBATCHES",
  "PjitPartitioner.logical_axis_rules": "LOGICAL_AXIS_RULES",
  "create_learning_rate_scheduler.warmup_steps": "WARMUP_STEPS",
  "create_learning_rate_scheduler.base_learning_rate": "PEAK_LEARNING_RATE",
  "adamw.learning_rate": "PEAK_LEARNING_RATE",
  "adamw.weight_decay": "optimizers.adamw.weight_decay",
  "adamw.b1": "optimizers.adamw.b1",
  "adamw.b2": "optimizers.adamw.b2",
  "adamw.eps": "optimizers.adamw.eps",
  "lion.learning_rate": "PEAK_LEARNING_RATE",
  "lion.weight_decay": "optimizers.lion.weight_decay",
  "clip_by_global_norm.max_norm": "CLIP_GRADIENT_NORM",
  "Adafactor.decay_rate": "optimizers.adafactor.decay_rate",
  "DatasetConfig.mixture_or_task_name": "MIXTURE_OR_TASK_NAME",
  "DatasetConfig.task_feature_lengths": "TASK_FEATURE_LENGTHS",
  "DatasetConfig.batch_size": "BATCH_SIZE",
  "DatasetConfig.module": "MIXTURE_OR_TASK_MODULE",
  "DatasetConfig.pack": "PACK",
  "SentencePieceVocabulary.sentencepiece_model_file": "VOCABULARY_FILE",
  "SentencePieceVocabulary.extra_ids": "EXTRA_IDS",
  "EncoderDecoderModel.z_loss": "Z_LOSS",
  "EncoderDecoderModel.label_smoothing": "LABEL_SMOOTHING",
  "EncoderDecoderModel.loss_normalizing_factor": "LOSS_NORMALIZING_FACTOR",
  "DecoderOnlyModel.z_loss": "Z_LOSS",
  "DecoderOnlyModel.label_smoothing": "LABEL_SMOOTHING",
  "DecoderOnlyModel.loss_normalizing_factor": "LOSS_NORMALIZING_FACTOR",
  "T5Config.vocab_size": "VOCAB_SIZE",
  "T5Config.dtype": "DTYPE",
  "T5Config.dropout_rate": "DROPOUT_RATE",
  "T5Config.remat_policy": "REMAT",
  "T5Config.scan_layers": "SCAN_LAYERS",
  **{
    f"T5Config.{name}": f"config.TransformerConfig.{name}"
    for name in (
      "emb_dim",
      "num_heads",
      "num_encoder_layers",
      "num_decoder_layers",
      "head_dim",
      "mlp_dim",
      "mlp_activations",
    )
  },
  "T5Config.logits_via_embedding": "config.TransformerConfig.tie_embeddings",
  "T5Config.scale_attn_logits": "config.TransformerConfig.scale_attention",
}


def of(name: str) -> str:
  """Returns T5X's name for a macro or parameter of this package; "" if T5X has none."""
  return next((t5x for t5x, ours in RENAMED.items() if ours == name), "")
