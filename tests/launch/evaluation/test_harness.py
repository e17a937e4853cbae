"""launch.eval harness: a task of a local file; without a network."""

import json

import pytest

from launch.process.errors import ConfigurationError


@pytest.fixture
def task_folder(tmp_path):
  folder = tmp_path / "tasks"
  folder.mkdir()
  lines = [{"text": "ab", "good": "cd", "bad": "zq"}, {"text": "a", "good": "b", "bad": "c"}]
  (folder / "data.json").write_text("\n".join(map(json.dumps, lines)))
  (folder / "task.yaml").write_text(f"""
task: local_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/data.json}}}}
test_split: test
output_type: multiple_choice
doc_to_text: text
doc_to_choice: ["{{{{good}}}}", "{{{{bad}}}}"]
doc_to_target: 0
metric_list: [{{metric: acc}}]
""")
  return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  for package in ("torch", "lm_eval"):
    pytest.importorskip(package, reason=f"{package} is missing: pip install '.[lm_eval]' torch")
  from tests import huggingface_folders

  folder = tmp_path_factory.mktemp("gpt2")
  huggingface_folders.save("gpt2", folder)
  return f"hf:{folder}"


@pytest.mark.slow
def test_a_table_and_json(folder, task_folder, run):
  include = f"--include_path={task_folder}"
  code, found = run("harness", folder, "local_choices", include, "--json")
  accuracy = found["results"]["local_choices"]["acc,none"]
  assert code == 0 and found["model"] == folder and accuracy in (0.0, 0.5, 1.0)
  code, found = run("harness", folder, "local_choices", include, "--json", "--examples=1")
  assert found["n-samples"]["local_choices"]["effective"] == 1
  code, shown = run("harness", folder, "local_choices", include)
  assert code == 0 and "local_choices" in shown and "acc" in shown


def test_mistakes(folder, task_folder, run):
  include = f"--include_path={task_folder}"
  with pytest.raises(ConfigurationError, match="has no task 'lokal'; `lm-eval ls tasks` lists"):
    run("harness", folder, "lokal", include)
  with pytest.raises(ConfigurationError, match="harness takes no --method"):
    run("harness", folder, "local_choices", "--method=causal")
