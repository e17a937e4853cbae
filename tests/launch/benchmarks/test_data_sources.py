"""The benchmark of sources reads in every format what it wrote."""

import pytest

from launch.benchmarks import data_sources

TEXTS = [f"{i} naïve 漢字 " + "x" * (i * 7 % 90) for i in range(50)]


@pytest.mark.slow
@pytest.mark.parametrize("format_", data_sources.FORMATS, ids=lambda each: each.label)
def test_a_pass_reads_every_document(tmp_path, format_):
  if missing := data_sources.missing(format_):
    pytest.skip(missing)
  row = data_sources.reading(format_, TEXTS, tmp_path / "files")  # It compares counts and bytes.
  assert row["megabytes_per_second"] > 0 and row["documents_per_second"] > 0
