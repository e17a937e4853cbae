"""The messages about wrong gin files and bindings, as full texts."""

import pytest

from launch.configuration import gin_files, reader
from launch.process.errors import ConfigurationError

PREFACE = "from __gin__ import dynamic_registration\nfrom restaurant import kitchen\n"


def error(*gin_files, bindings=(), search_paths=()):
  with pytest.raises(ConfigurationError) as caught:
    reader.read(gin_files, bindings, search_paths)
  return str(caught.value)


def test_no_gin_file(workdir):
  assert error() == (
    "No configuration is given. Start with --gin_file=quickstart.gin; there are dinner.gin."
  )


def test_missing_gin_file(workdir):
  assert error("diner.gin") == (
    "There is no gin file 'diner.gin'. Did you mean 'dinner.gin'?"
    f"\n  Looked in {workdir}, {gin_files.SHIPPED}."
  )
  assert "Did you mean 'ovens/hot.gin'?" in error("hot.gin")
  assert "Shipped are dinner.gin, ovens/hot.gin, ovens/mild.gin." in error("xyzzy.gin")


def test_missing_include(workdir, write):
  write(workdir, {"mine.gin": "include 'dinner.gin'\n\ninclude 'ovens/hat.gin'"})
  assert error("mine.gin") == (
    "There is no gin file 'ovens/hat.gin'. Did you mean 'ovens/hot.gin'?"
    "\n  mine.gin:3: include 'ovens/hat.gin'"
    f"\n  Looked in {workdir}, {gin_files.SHIPPED}."
  )


def test_includes_in_a_circle(workdir, write):
  write(workdir, {"a.gin": "include 'b.gin'", "b.gin": "include 'a.gin'"})
  assert error("a.gin") == "Gin files include each other: a.gin -> b.gin -> a.gin."


def test_misspelt_macro_on_the_command_line(workdir):
  assert error("dinner.gin", bindings=["MINTUES=3"]) == (
    "The gin files use no macro MINTUES. Did you mean 'MINUTES'?\n  command line: --gin.MINTUES=3"
  )
  assert error("dinner.gin", bindings=["WINE=3"]) == (
    "The gin files use no macro WINE. They use MINUTES, OVEN, PLACE.\n  command line: --gin.WINE=3"
  )


def test_misspelt_macro_in_a_file(workdir, write):
  write(workdir, {"mine.gin": "include 'dinner.gin'\nMINTUES = 3"})
  assert error("mine.gin") == (
    "MINTUES is set, but nothing uses it. Did you mean MINUTES?\n  mine.gin:2: MINTUES = 3"
  )
  write(workdir, {"mine.gin": "include 'dinner.gin'\nWINE = 3"})
  reader.read(["mine.gin"])  # A file may offer more than is used.


def test_misspelt_macro_in_use(workdir, write):
  write(workdir, {"mine.gin": f"{PREFACE}MINUTES = 3\nkitchen.Meal.minutes = %MINTUES"})
  assert error("mine.gin") == (
    "MINTUES is not set. Did you mean MINUTES, which is set?"
    "\n  mine.gin:4: kitchen.Meal.minutes = %MINTUES"
  )
  write(workdir, {"mine.gin": f"include 'dinner.gin'\n{PREFACE}kitchen.Oven.degrees = %MINTUES"})
  assert error("mine.gin").startswith("MINTUES is not set. Did you mean MINUTES, which is set?")


def test_macro_that_another_file_sets(workdir, write):
  write(workdir, {"mine.gin": f"{PREFACE}kitchen.Meal.oven = %OVEN\nkitchen.Meal.minutes = 1"})
  assert error("mine.gin") == (
    "OVEN is not set. Include one of ovens/hot.gin, ovens/mild.gin, or set it: --gin.OVEN=..."
    "\n  mine.gin:3: kitchen.Meal.oven = %OVEN"
  )


def test_macro_marked_as_required(workdir, write):
  write(workdir, {"mine.gin": "include 'dinner.gin'\nMINUTES = %gin.REQUIRED"})
  assert "MINUTES is not set" in error("mine.gin")
  reader.read(["mine.gin"], ["MINUTES=3"])


def test_misspelt_parameter(workdir, write):
  write(workdir, {"mine.gin": f"{PREFACE}kitchen.Oven.degrees = 1\nkitchen.Oven.degreees = 2"})
  assert error("mine.gin") == (
    "Oven has no parameter 'degreees'. Did you mean 'degrees'?"
    "\n  mine.gin:4: kitchen.Oven.degreees = 2"
  )
  write(workdir, {"mine.gin": f"{PREFACE}\nkitchen.Oven:\n  degrees = 1\n  wood = 3"})
  assert error("mine.gin") == (
    "Oven has no parameter 'wood'. It has degrees, fan.\n  mine.gin:6: wood = 3"
  )


def test_misspelt_class(workdir, write):
  write(workdir, {"mine.gin": f"{PREFACE}X = @kitchen.Ovne()"})
  assert error("mine.gin") == (
    "The module restaurant.kitchen has no 'Ovne'. Did you mean 'Oven'?"
    "\n  mine.gin:3: X = @kitchen.Ovne()"
  )
  write(workdir, {"mine.gin": f"{PREFACE}kitchen.colour.x = 1"})
  assert "kitchen.colour is neither a function nor a class" in error("mine.gin")


def test_misspelt_module(workdir, write):
  write(workdir, {"mine.gin": "from restaurant import kitchn"})
  assert error("mine.gin") == (
    "restaurant has no module 'kitchn'. Did you mean 'kitchen'?"
    "\n  mine.gin:1: from restaurant import kitchn"
  )
  write(workdir, {"mine.gin": "import restaurants.kitchen"})
  assert "There is no Python module 'restaurants.kitchen'." in error("mine.gin")


def test_import_of_a_class(workdir, write):
  write(workdir, {"mine.gin": "from restaurant.kitchen import Oven"})
  assert error("mine.gin") == (
    "gin imports modules, and Oven is something inside the module restaurant.kitchen: write "
    "`from restaurant import kitchen` and use kitchen.Oven."
    "\n  mine.gin:1: from restaurant.kitchen import Oven"
  )


def test_name_that_is_not_imported(workdir, write):
  write(workdir, {"mine.gin": f"{PREFACE}kitchn.Oven.degrees = 3"})
  message = error("mine.gin")
  assert message.startswith("This file imports nothing called 'kitchn'. Did you mean 'kitchen'?")
  assert message.endswith("\n  mine.gin:3: kitchn.Oven.degrees = 3")


def test_misspelt_name_on_the_command_line(workdir):
  assert error("dinner.gin", bindings=["Ovne.degrees=3"]) == (
    "The gin files bind nothing called 'Ovne'. Did you mean 'Oven'?"
    "\n  command line: --gin.Ovne.degrees=3"
  )


def test_syntax_error(workdir, write):
  write(workdir, {"mine.gin": "A = 3\nB = [1, 2\nC = 4"})
  assert error("mine.gin").startswith("gin syntax: ")
  assert "mine.gin:" in error("mine.gin")
  write(workdir, {"mine.gin": "A = (3)\nB = {'a': [1],\n\n"})
  assert error("mine.gin").endswith("a bracket is never closed.\n  mine.gin:2: B = {'a': [1],")
  for text in ("B = ['abc", 'B = ["""abc'):  # No quotation mark closes the text.
    write(workdir, {"mine.gin": f"A = 3\n{text}\n]\n"})
    assert "bracket" not in error("mine.gin")
    assert error("mine.gin").endswith(f"\n  mine.gin:2: {text}")
  write(workdir, {"mine.gin": "A = 3\nB 4"})
  assert error("mine.gin").endswith("\n  mine.gin:2: B 4")
  write(workdir, {"mine.gin": "A = 3\nB = kitchen"})
  assert error("mine.gin").endswith("\n  mine.gin:2: B = kitchen")


def test_unquoted_string_for_something_that_is_not_a_string(workdir):
  message = error("dinner.gin", bindings=["MINUTES=long"])
  assert message.startswith("gin cannot read the value long; a string is written --gin.MINUTES=")
  assert "--gin.MINUTES=\"'text'\"." in message
  assert "Did you mean 'True'?" in error("dinner.gin", bindings=["MINUTES=Ture"])


def test_binding_without_a_value(workdir):
  assert error("dinner.gin", bindings=["MINUTES"]) == (
    "--gin.MINUTES sets nothing; write --gin.NAME=value."
  )


def test_required_parameter_left_unbound(workdir, write, kitchen):
  write(workdir, {"mine.gin": f"{PREFACE}kitchen.Meal.oven = @kitchen.Oven()"})
  assert error("mine.gin") == (
    "Oven needs degrees, which nothing sets; bind Oven.degrees, or include one of ovens/hot.gin."
    "\n  mine.gin:3: kitchen.Meal.oven = @kitchen.Oven()"
  )
  write(workdir, {"mine.gin": f"{PREFACE}include 'ovens/hot.gin'\nkitchen.Meal.oven = %OVEN"})
  with pytest.raises(ConfigurationError, match="Meal needs minutes, which nothing sets"):
    reader.read(["mine.gin"]).build(kitchen.Meal)


def test_class_the_files_say_nothing_about(workdir, kitchen):
  with pytest.raises(ConfigurationError) as caught:
    reader.read(["ovens/hot.gin"]).build(kitchen.Meal)
  assert str(caught.value) == (
    "The gin files say nothing about Meal of restaurant.kitchen. "
    "Include one of dinner.gin, or give it with --gin_file."
  )


def test_files_that_are_not_text_in_utf8(workdir):
  content = f"{PREFACE}kitchen.Oven.degrees = 3  # °C".encode()
  for name, wrong in (
    ("utf16", content.decode().encode("utf-16")),
    ("nul", content + b"\0"),
    ("latin", content.decode().encode("latin-1")),
  ):
    (workdir / f"{name}.gin").write_bytes(wrong)
    assert error(f"{name}.gin").startswith(f"{name}.gin is not text in UTF-8")
  assert "(line 3)" in error("latin.gin")


@pytest.mark.parametrize(
  "change", [lambda x: b"\xef\xbb\xbf" + x, lambda x: x.replace(b"\n", b"\r\n")]
)
def test_byte_order_marks_and_line_ends_of_windows_are_read(workdir, kitchen, change):
  (workdir / "mine.gin").write_bytes(change(f"{PREFACE}kitchen.Oven.degrees = 3\n".encode()))
  assert reader.read(["mine.gin"]).build(kitchen.Oven).degrees == 3


def test_macros_in_a_circle(workdir, write):
  write(workdir, {"mine.gin": "include 'dinner.gin'\nA = (1, %B)\nB = %A\nMINUTES = %A"})
  message = error("mine.gin")
  assert message.startswith("%A needs its own value: %A -> %B -> %A.\n  mine.gin:3: B = %A")


@pytest.mark.parametrize(
  ("value", "message"),
  [
    ("[" * 5000 + "]" * 5000, "nest"),  # From Python 3.12 on Python itself says so, in its words.
    ("9" * 5000, "gin syntax: Exceeds the limit (4300 digits)"),
    ("0x" + "f" * 5000, "A number has too many digits."),
    ("{[1]: 2}", "unhashable"),
    ("{%LIST: 2}", "A key of {%LIST: 2} is a list or a dictionary."),
  ],
)
def test_values_that_cannot_be_read(workdir, write, value, message):
  write(workdir, {"mine.gin": f"{PREFACE}LIST = [1]\nkitchen.Oven.degrees = {value}"})
  assert message in error("mine.gin")


def test_a_folder_is_not_a_gin_file(workdir):
  (workdir / "some").mkdir()
  assert error("some").startswith("'some' is a folder, not a gin file.")


def test_modules_with_errors_of_syntax(workdir, write, monkeypatch):
  write(workdir, {"broken_module.py": "def (", "mine.gin": "import broken_module"})
  monkeypatch.syspath_prepend(workdir)
  assert error("mine.gin").startswith("broken_module cannot be imported: invalid syntax (")


def test_a_scope_that_nothing_enters(workdir, write):
  text = f"{PREFACE}kitchen.Meal.oven = @summer/kitchen.Oven()\nsumer/kitchen.Oven.degrees = 1"
  write(workdir, {"mine.gin": text})
  assert error("mine.gin").startswith(
    "No reference enters the scope 'sumer', so this has no effect. Did you mean 'summer'?"
  )
