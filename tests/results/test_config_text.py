"""Settings of config.gin as text, and the differences of runs."""

import ast

from t5x_style.results import config_text

CONFIG = r"""
# A comment = 3
from __gin__ import dynamic_registration

BATCH_SIZE = 16  # command line
NAME = 'a # no comment = "x"'  # file.gin:3
RATES = {'R': 0.4, 'S': (0.2,)}
SCHEDULE = @schedules.cosine()
# gin_configs/long.gin:4
LONG = \
    {'first': 'a long text',
     'second': ['one', -1.5e-05,
                None]}
schedules.cosine.peak = %PEAK  # default
a/b.c.d = -1
"""


def test_every_setting_is_read_without_gin():
  found = config_text.settings(CONFIG)
  assert found == {
    "BATCH_SIZE": "16",
    "NAME": "'a # no comment = \"x\"'",
    "RATES": "{'R': 0.4, 'S': (0.2,)}",
    "SCHEDULE": "@schedules.cosine()",
    "LONG": "{'first': 'a long text', 'second': ['one', -1.5e-05, None]}",
    "schedules.cosine.peak": "%PEAK",
    "a/b.c.d": "-1",
  }
  assert ast.literal_eval(found["LONG"])["second"] == ["one", -1.5e-05, None]


def test_a_file_that_is_cut_gives_what_is_there():
  assert config_text.settings(CONFIG[: CONFIG.index("'second'")]).keys() >= {"BATCH_SIZE", "RATES"}
  assert config_text.settings("") == {}
  assert config_text.settings("A = 1\nB = (\n") == {"A": "1"}


def test_only_what_differs_is_listed_and_macros_once():
  one = {"SIZE": "1", "config.size": "%SIZE", "MODEL_DIR": "'a'", "SAME": "2", "x.rate": "%RATE"}
  two = {"SIZE": "3", "config.size": "%SIZE", "MODEL_DIR": "'b'", "SAME": "2", "x.rate": "0.1"}
  one |= {"RATE": "%BASE", "BASE": "0.2"}
  two |= {"only.here": "True"}
  assert config_text.differences([one, two]) == {
    "SIZE": ["1", "3"],
    "x.rate": ["0.2", "0.1"],
    "RATE": ["0.2", None],
    "BASE": ["0.2", None],
    "only.here": [None, "True"],
  }
  assert config_text.differences([one, one]) == {}


def test_a_macro_and_its_value_are_the_same():
  assert config_text.differences([{"x.y": "%A", "A": "1"}, {"x.y": "1", "A": "1"}]) == {}
