"""Commands that need a size do not ignore that MINUTES or FLOPS leave it open."""

import pytest

from launch.configuration import open_size, reader
from launch.process.errors import ConfigurationError

RUN = ["quickstart.gin"]


def test_a_budget_is_found_and_refused():
  assert open_size.given(reader.read(RUN)) == ""
  open_size.refuse(reader.read(RUN))
  with pytest.raises(ConfigurationError, match="MINUTES = 5 leaves the size open"):
    open_size.refuse(reader.read(RUN, ["MINUTES = 5"]))


def test_certification_refuses_a_budget(tmp_path):
  from launch.certification import runs

  with pytest.raises(ConfigurationError, match=r"FLOPS = 1e\+12 leaves the size open"):
    runs.prepare("quickstart.gin", ["FLOPS = 1e12"], tmp_path)
