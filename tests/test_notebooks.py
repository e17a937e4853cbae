"""Notebooks run from the first cell to the last, and are stored without what they showed."""

import json
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_not_stored(path):
  cells = json.loads(path.read_text())["cells"]
  code = [cell for cell in cells if cell["cell_type"] == "code"]
  assert code and not any(cell["outputs"] or cell["execution_count"] for cell in code)


def shown(cell):
  """All that a cell has shown, as text."""
  outputs = cell.get("outputs", ())
  texts = [x.get("text", "") + x.get("data", {}).get("text/html", "") for x in outputs]
  return "\n".join(texts)


@pytest.mark.slow
def test_objectives_are_shown_trained_and_compared(tmp_path, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  monkeypatch.setenv("TMPDIR", str(tmp_path))
  notebook = nbformat.read(ROOT / "notebooks/objectives.ipynb", as_version=4)
  nbclient.NotebookClient(
    notebook, timeout=900, resources={"metadata": {"path": str(ROOT / "notebooks")}}
  ).execute()
  texts = [shown(cell) for cell in notebook.cells if cell.cell_type == "code"]
  everything = "\n".join(texts)
  assert "<mark>The</mark>" in everything  # of causal LM, which learns from the first token, too
  assert "<mark>&lt;extra_id_0&gt;</mark>" in everything
  charts = [text for text in texts if 'class="series-2"' in text]
  assert len(charts) == 2  # of three runs each
  assert "causal LM continues:" in texts[-1] and "span corruption fills:" in texts[-1]
  runs = {path.parent.name for path in tmp_path.rglob("metrics.jsonl")}
  assert runs == {"causal_LM", "masked_LM", "span_corruption"}
