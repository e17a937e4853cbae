"""The tables of a GPU day are made from its results only."""

from launch.benchmarks import gpu_tables

MACHINE = {
  "card": "NVIDIA H200",
  "driver": "580.1",
  "versions": {"jax": "0.11.2", "transformers": "5.24.0"},
}
STEP = {
  "group": "BERT-base: 256 x 128 tokens, bfloat16 (1 x NVIDIA H200, jax 0.11.2)",
  "case": "BERT-base",
  "rows": 256,
  "tokens_per_second": 706776.4,
  "tflops": 384.7,
  "mfu": 0.3897,
  "flop_formula": "3 x products",
}


def content(**parts):
  return {"machine": MACHINE, "tiny": False, "parts": parts}


def test_the_table_of_the_readme():
  beside = [
    STEP | {"label": "against HF eager", "ratio": 0.72},
    STEP | {"label": "against HF compiled", "ratio": 0.834},
    STEP | {"label": "against HF eager, all positions", "ratio": 0.5},
  ]
  alone = STEP | {
    "group": "BERT-base: 512 x 128 tokens, bfloat16 (1 x NVIDIA H200, jax 0.11.2)",
    "label": "t5x_style",
    "rows": 512,
    "mfu": None,
  }
  found = gpu_tables.text(
    content(
      **{
        "step BERT": {"rows": beside, "outcome": "done"},
        "step alone": {"rows": [alone], "outcome": "done"},
        "decode": {"rows": [], "outcome": "left out", "why": "no time was left"},
      }
    )
  )
  assert found.startswith("NVIDIA H200, driver 580.1, jax 0.11.2, transformers 5.24.0.\n")
  assert "| BERT-base: 256 x 128 tokens, bfloat16 | 706,776 | 385 | 39.0% | 0.72 | 0.83 |" in found
  assert "| BERT-base: 512 x 128 tokens, bfloat16 | 706,776 | 385 | - | - | - |" in found
  assert "FLOPs: 3 x products." in found
  assert found.endswith("Left out: decode (no time was left).\n")


def test_other_parts_have_a_line_for_each_row():
  text_row = {"group": "A decoder (gpu)", "label": "killed, resumed", "seconds": 30.4}
  runs = [text_row | {"killed_after": 120, "same": "yes", "held_out_loss": 2.5}]
  tests = [{"passed": 5, "skipped": 1, "failed": ["a.b"]}]
  found = gpu_tables.text(
    content(
      text={"rows": runs, "outcome": "done"},
      tests={"rows": tests, "outcome": "failed", "why": "code 1: 1 failed"},
    )
  )
  assert "| A decoder: killed, resumed | 30 | - | 2.5000 | 120 | yes |" in found
  assert "Tests of kernels: 5 passed, 1 skipped, 1 failed: a.b." in found
  assert "tests failed: code 1: 1 failed." in found
  assert "FP8: not decided" in found and found.endswith("Nothing was left out.\n")
