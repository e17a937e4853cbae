"""What launch.cache shows of a finished cache, in a few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from t5x_style.errors import shortened
from t5x_style.token_cache.manifest import Manifest

_BAR = 30  # characters of the longest bar


def lines(folder: Path, manifest: Manifest) -> Iterator[str]:
  """Yields the lines: corpus, vocabulary, counts, shards, options, statistics, how to train."""
  vocabulary, options = manifest.vocabulary, manifest.options
  size = sum(facts.size for facts in manifest.every_file())
  yield f"{folder}: a token cache, {size / 1e6:,.1f} MB in {_shards(manifest)}"
  yield f"corpus       {manifest.corpus['name']} {manifest.corpus['fingerprint'][:12]}"
  yield f"vocabulary   {vocabulary['identity'].get('name')}, {vocabulary['ids']:,} ids"
  kept = "exact duplicates are left out" if options.get("deduplicate") else "duplicates are kept"
  yield f"options      {kept}{', documents have targets' * manifest.targets}"
  counts = manifest.statistics["splits"]
  for split, found in counts.items():
    yield f"{split:12} {_counts(found)}"
  for name in ("left_out", "changed"):
    for reason, (count, first) in manifest.statistics[name].items():
      verb = "left out" if name == "left_out" else "changed"
      yield f"{verb:12} {count:,} documents {reason}; the first is {first}"
  yield from (f"warning      {text}" for text in shortened(manifest.statistics["warnings"]))
  yield "tokens of a document"
  yield from _histogram(counts["train"] if "train" in counts else next(iter(counts.values())))
  yield "Train on it:"
  yield (
    "  python -m launch.train --gin_file=my_run.gin --gin_file=data/token_cache.gin "
    f"--gin.CACHE_DIR=\"'{folder}'\""
  )


def _shards(manifest: Manifest) -> str:
  counts = [f"{len(shards)} for {split}" for split, shards in manifest.splits.items()]
  return f"shards: {', '.join(counts)}"


def _counts(found: Mapping[str, Any]) -> str:
  tokens = max(1, found["tokens"])
  parts = [
    f"{found['documents']:,} documents",
    f"{found['tokens']:,} tokens",
    f"{found['text_bytes']:,} bytes of text ({found['text_bytes'] / tokens:.2f} a token)",
    f"{found['unknown_tokens'] / tokens:.4%} unknown tokens",
  ]
  for name, what in (
    ("duplicates", "duplicates left out"),
    ("also_held_out", "left out as they are also held out"),
  ):
    if found.get(name):
      parts.append(f"{found[name]:,} {what}")
  return ", ".join(parts)


def _histogram(found: Mapping[str, Any]) -> Iterator[str]:
  lengths = found["lengths"]
  most = max(lengths.values(), default=1)
  for bound, count in lengths.items():
    bar = "\u2588" * max(1, round(_BAR * count / most))
    yield f"  up to {int(bound):>9,}  {bar:{_BAR}} {count:>12,}"
