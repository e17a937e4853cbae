"""Commands with actions: which one is meant, and which flags it takes."""

import pytest
from absl import flags

from launch.configuration import actions
from launch.process.errors import ConfigurationError


@pytest.fixture
def values():
  """Parses words of a command line: two flags of actions, and the one that all take."""
  defined = flags.FlagValues()
  for name in ("json", "all", "traceback"):
    flags.DEFINE_bool(name, False, "", flag_values=defined)
  return lambda *words: defined(["command", *words]) and defined


def test_a_description_is_the_first_line_of_the_module():
  found = actions.descriptions("checkpoints", ("verify",))
  assert found == {"verify": "Reads all of every step, and says whether it is as it was saved."}
  assert actions.listed({"a": "One.", "long": "Two."}) == "  a     One.\n  long  Two."


def test_the_first_word_is_the_action():
  assert actions.chosen(["list", "x", "y"], ("list", "diff")) == ("list", ["x", "y"])
  with pytest.raises(ConfigurationError, match="no action 'dif'. Did you mean 'diff'"):
    actions.chosen(["dif"], ("list", "diff"))


def test_an_action_takes_its_own_flags_only(values):
  module = actions.imported("checkpoints", "list", values("--json", "--traceback"))
  assert "json" in module.FLAGS and "all" not in module.FLAGS
  with pytest.raises(ConfigurationError, match="list takes no --all"):
    actions.imported("checkpoints", "list", values("--all"))
