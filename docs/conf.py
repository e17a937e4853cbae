"""Settings of the site: sphinx-build -W --keep-going docs docs/_build"""

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.python import PythonLexer

FOLDER = Path(__file__).resolve().parent
# The package of this clone, the commands of launch/, and the extensions of this folder.
sys.path[:0] = [str(FOLDER.parent), str(FOLDER)]

# The pages need no accelerator, and no notices of TensorFlow.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "t5x_style"
author = "the authors of t5x_style"
release = importlib.metadata.version("t5x_style")

extensions = [
  "myst_parser",
  "sphinx.ext.autodoc",
  "sphinx.ext.napoleon",
  "sphinx.ext.mathjax",
  "sphinx_copybutton",
  "docstring_blocks",
  "gin_reference",
  "command_reference",
]
exclude_patterns = ["_build"]
smartquotes = False  # Quotes are often those of a value in gin, which a reader copies.
html_theme = "furo"  # It has a light and a dark look, and follows the reader's system.
html_title = "t5x_style"
html_show_sphinx = html_show_copyright = False

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
mathjax4_config = {"output": {"displayOverflow": "linebreak"}}  # On a phone formulas are broken.

# Functions and classes are shown in the order of the source, with the types of the signature.
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_class_signature = "separated"
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "literal"  # `name` in a docstring is code.

# Prompts are not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app: Any) -> None:
  app.add_lexer("gin", PythonLexer)  # gin's values and comments are those of Python.
