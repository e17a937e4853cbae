"""Tests are where the file they test is, and every file has a test there or in the table below."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"

# Tests of a whole subject, which no single file computes.
SUBJECTS = {
  "data/test_cross_documents.py",
  "interop/huggingface/test_generation.py",
  "interop/huggingface/test_initial_values.py",
  "interop/huggingface/test_pipelines.py",
  "interop/huggingface/test_shipped_models.py",
  "interop/huggingface/test_training_step.py",
  "launch/comparison/test_own_text.py",
  "launch/configuration/test_every_setting.py",
  "launch/configuration/test_setting_errors.py",
  "launch/test_data_files.py",
  "launch/test_pod_recipes.py",
  "launch/test_pods.py",
  "models/attention_kernels/test_for_tpus.py",
  "models/attention_kernels/test_in_models.py",
  "models/attention_kernels/test_saturated_logits.py",
  "models/test_parameter_counts.py",
  "partitioning/test_equivalence.py",
  "partitioning/test_expert_equivalence.py",
  "training/test_distributed.py",
  "training/test_distributed_caches.py",
}
# Files without a test of their own name, and the test that runs them.
TESTED_BY = {
  "checkpoints/agreement.py": "training/test_distributed.py",
  "checkpoints/orbax_noise.py": "checkpoints/test_saving.py",
  "codecs/byte_codec.py": "codecs/test_text_codec.py",
  "codecs/sentencepiece_codec.py": "codecs/test_text_codec.py",
  "codecs/sentencepiece_models.py": "data/tokenizers/test_vocabularies_of_files.py",
  "codecs/tokenizer_json.py": "data/tokenizers/test_huggingface_tokenizers_of_files.py",
  "codecs/tokenizer_json_codec.py": "codecs/test_text_codec.py",
  "data/corpora/reading/record_reader.py": "data/corpora/reading/test_record_formats.py",
  "data/corpora/reading/tfds_source.py": "data/corpora/test_tfds.py",
  "data/corpora/record_corpus.py": "data/corpora/test_records.py",
  "data/map_options.py": "data/test_pipeline.py",
  "data/corpora/stdlib_examples.py": "data/corpora/test_stdlib_packages.py",
  "data/corpora/token_cache.py": "data/random_access/test_opening.py",
  "data/model_ids.py": "data/tokenizers/test_huggingface_tokenizers.py",
  "data/numpy_arrays.py": "data/test_arrays.py",
  "data/objectives/base.py": "test_gin_files.py",
  "data/optional_features.py": "data/objectives/test_mixture.py",
  "data/packing_stream.py": "data/test_packing.py",
  "data/placeholders.py": "launch/test_precompile.py",
  "data/preview/colours.py": "data/preview/test_terminal.py",
  "data/preview/origins.py": "launch/test_where.py",
  "data/run_facts.py": "data/test_loader.py",
  "data/sources.py": "data/test_loader.py",
  "data/stream.py": "data/test_loader.py",
  "data/tf_arrays.py": "data/test_arrays.py",
  "data/tokenizers/huggingface_vocabulary.py": "data/tokenizers/test_huggingface_tokenizers.py",
  "data/tokenizers/seqio_vocabularies.py": "data/tokenizers/test_vocabularies.py",
  "errors.py": "launch/process/test_errors.py",
  "interop/checkpoint_formats.py": "launch/test_convert.py",
  "interop/huggingface/checkpoint_import.py": "interop/huggingface/test_checkpoint_export.py",
  "interop/huggingface/conversion_report.py": "launch/test_convert.py",
  "interop/huggingface/correspondence.py": "interop/huggingface/test_families.py",
  "interop/huggingface/family_registry.py": "interop/huggingface/test_config_keys.py",
  "interop/huggingface/path_prefix.py": "launch/test_convert.py",
  "interop/huggingface/rotary_keys.py": "interop/huggingface/test_config_keys.py",
  "interop/t5x/checkpoint_files.py": "interop/t5x/test_reader.py",
  "likelihoods.py": "launch/evaluation/test_loss_text.py",
  "launch/benchmarks/decode_cases.py": "launch/benchmarks/test_decode.py",
  "launch/benchmarks/flax_step.py": "launch/benchmarks/test_step.py",
  "launch/benchmarks/huggingface_decode.py": "launch/benchmarks/test_decode.py",
  "launch/torch_peers/parameters.py": "launch/benchmarks/test_huggingface_step.py",
  "launch/torch_peers/training.py": "launch/benchmarks/test_huggingface_step.py",
  "launch/caching/pipeline.py": "launch/test_cache.py",
  "launch/caching/plan.py": "launch/caching/test_make.py",
  "launch/caching/progress.py": "launch/test_cache.py",
  "launch/caching/request.py": "launch/test_cache.py",
  "launch/caching/runs.py": "launch/caching/test_merge.py",
  "launch/caching/small.py": "token_cache/test_cache.py",
  "launch/caching/statistics.py": "launch/caching/test_merge.py",
  "launch/caching/steps.py": "launch/caching/test_make.py",
  "launch/certification/catalogue.py": "launch/certification/test_elsewhere.py",
  "launch/certification/recipe.py": "launch/certification/test_journal.py",
  "launch/certification/recipes.py": "launch/certification/test_elsewhere.py",
  "launch/certification/runs.py": "launch/certification/test_twins.py",
  "launch/clusters/programs.py": "launch/clusters/test_tpu.py",
  "launch/benchmarks/train_starts.py": "launch/benchmarks/test_startup.py",
  "launch/comparison/curves.py": "launch/test_compare.py",
  "launch/comparison/held_out.py": "launch/comparison/test_judge.py",
  "launch/comparison/plan_table.py": "launch/test_compare.py",
  "launch/comparison/progress.py": "launch/test_compare.py",
  "launch/comparison/report.py": "launch/test_compare.py",
  "launch/comparison/results.py": "launch/test_compare.py",
  "launch/benchmarks/gpu_parts.py": "launch/benchmarks/test_gpu.py",
  "launch/benchmarks/gpu_results.py": "launch/benchmarks/test_gpu.py",
  "launch/benchmarks/step_profile.py": "launch/benchmarks/test_gpu.py",
  "launch/comparison/rounds.py": "launch/test_compare.py",
  "launch/comparison/run_job.py": "launch/test_compare.py",
  "launch/configuration/gin_checks.py": "launch/configuration/test_setting_errors.py",
  "launch/configuration/gin_files.py": "launch/configuration/test_reader_errors.py",
  "launch/configuration/gin_names.py": "launch/configuration/test_reader_errors.py",
  "launch/configuration/gin_references.py": "launch/configuration/test_every_setting.py",
  "launch/configuration/gin_text.py": "launch/configuration/test_reader_errors.py",
  "launch/configuration/gin_types.py": "launch/configuration/test_every_setting.py",
  "launch/conversion/output_folder.py": "launch/test_convert_folders.py",
  "launch/evaluation/chosen_steps.py": "launch/evaluation/test_loss.py",
  "launch/evaluation/settings_text.py": "launch/evaluation/test_tasks.py",
  "launch/evaluation/checkpoint_fit.py": "launch/evaluation/test_loss.py",
  "launch/evaluation/held_out.py": "launch/evaluation/test_loss_text.py",
  "launch/evaluation/run_settings.py": "launch/evaluation/test_loss_text.py",
  "launch/inference/records.py": "launch/test_infer.py",
  "launch/inference/run_lines.py": "launch/test_infer.py",
  "launch/evaluation/trained_model.py": "launch/evaluation/test_pairs.py",
  "models/expert_computation.py": "models/test_expert_layer.py",
  "models/attention_kernels/gpu_support.py": "models/attention_kernels/test_tokamax_flash.py",
  "models/attention_kernels/head_sharding.py": "models/attention_kernels/test_short_rows.py",
  "objective_tasks.py": "trained/test_abilities.py",
  "reporting/skipped_batches.py": "training/test_guard.py",
  "setting_types.py": "launch/configuration/test_every_setting.py",
  "shipped_vocabulary.py": "interop/huggingface/test_tokenizer_export.py",
  "token_cache/shard.py": "token_cache/test_cache.py",
  "token_cache/shard_writer.py": "token_cache/test_cache.py",
  "trained/scores.py": "trained/test_scoring.py",
  "trained/scoring_frames.py": "trained/test_scoring_methods.py",
  "trained/scoring_rows.py": "trained/test_scoring.py",
  "training/job.py": "training/test_loop.py",
  "trained/checkpoint_folders.py": "trained/test_loading.py",
  "trained/decoder_filling.py": "trained/test_filling.py",
  "trained/encoder_filling.py": "trained/test_filling.py",
  "trained/filled.py": "trained/test_filling.py",
  "trained/loaded_model.py": "trained/test_loading.py",
  "trained/model.py": "trained/test_loading.py",
  "trained/run_vocabularies.py": "trained/test_loading.py",
  "trained/writing.py": "trained/test_generating.py",
  "training/step.py": "training/test_loss.py",
}
# Benchmarks without a test: they only measure or draw.
MEASURING = {
  f"launch/benchmarks/{name}.py"
  for name in (
    *("attention", "data_objectives", "data_rates", "loss", "reads", "roofline_plot"),
    "step_memory",
  )
}


def mirrored_files() -> list[str]:
  """All files of t5x_style/ and launch/, named as in tests/: models/stack.py, launch/train.py."""
  files = [path.relative_to(ROOT / "t5x_style") for path in (ROOT / "t5x_style").rglob("*.py")]
  files += [path.relative_to(ROOT) for path in (ROOT / "launch").rglob("*.py")]
  return sorted(path.as_posix() for path in files if path.name != "__init__.py")


def begins_with(name: str, start: str) -> bool:
  return f"{name}_".startswith(f"{start}_")


def test_tests_are_where_the_file_they_test_is():
  """training/test_loss.py and training/test_loss_padding.py test training/loss.py."""
  wrong = [place for place in SUBJECTS if not (TESTS / place).exists()]
  for path in sorted(TESTS.glob("*/**/test_*.py")):
    place = path.relative_to(TESTS)
    if place.as_posix() in SUBJECTS:
      continue
    folder = (ROOT if place.parts[0] == "launch" else ROOT / "t5x_style") / place.parent
    known = {x.stem for x in folder.glob("*.py")} | {x.name for x in folder.glob("*/")}
    tested = path.stem.removeprefix("test_")
    if not any(begins_with(tested, name) for name in (*known, folder.name)):
      wrong.append(str(place))
  assert wrong == []


def test_every_file_has_a_test():
  """Under its name, or that of its folder (families/bert.py: test_families.py), or in the table."""
  untested = set()
  for file in mirrored_files():
    path = Path(file)
    own = [x.stem.removeprefix("test_") for x in (TESTS / path.parent).glob("test_*.py")]
    folder = TESTS / path.parent.parent / f"test_{path.parent.name}.py"
    if not folder.exists() and not any(begins_with(name, path.stem) for name in own):
      untested.add(file)
  listed = TESTED_BY.keys() | MEASURING
  assert (sorted(untested - listed), sorted(listed - untested)) == ([], [])
  assert [test for test in TESTED_BY.values() if not (TESTS / test).exists()] == []
