"""The parts of a GPU day: what each measures, its command, and how long it may take."""

import importlib.util
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..process import environment
from ..process.errors import ConfigurationError, did_you_mean

_BENCHMARKS = Path(__file__).parent
_TESTS = Path(__file__).parents[2] / "tests"
KERNEL_TESTS = (
  "models/attention_kernels/test_cudnn.py",
  "models/attention_kernels/test_tokamax_flash.py",
  "models/attention_kernels/test_xla.py",
  "losses/test_linear_cross_entropy.py",
  "models/test_fp8.py",
)
_TINY_TIMES = 4
_TINY_TESTS = ("models/attention_kernels/test_xla.py",)


class Part(NamedTuple):
  """One thing to measure, in a process of its own.

  Attributes:
    arguments: of Python; "{to}" is a folder for files of this part.
    least: with fewer seconds left it is not started.
    most: after this many seconds it is ended.
    missing: why it cannot be started here; "" if it can.
    environ: variables of its environment.
  """

  name: str
  about: str
  arguments: tuple[str, ...]
  least: int
  most: int
  missing: str = ""
  environ: Mapping[str, str] = types.MappingProxyType({})


def parts(tiny: bool) -> list[Part]:
  """Returns all parts, the one whose result is worth most first.

  Args:
    tiny: whether models and arrays are tiny, to try the command.
  """
  decoder, t5, bert = ("decoder", "T5", "BERT")
  return [
    _tests(tiny),
    _beside_hf("step T5", t5, tiny, 120, 240),
    _beside_hf("step decoder", decoder, tiny, 80, 200),
    _benchmark("text", "a run on text: killed, resumed, in 8 bits", ("text",), 60, 240),
    _beside_hf("step BERT", bert, tiny, 60, 160),
    _benchmark(
      "step alone",
      "the three shapes with all of the memory, and profiles",
      ("step", *_seconds(tiny, 10), "--profile={to}"),
      60,
      240,
    ),
    _benchmark("loss", "the loss kernel", ("loss",), 40, 150),
    _benchmark("attention", "every attention kernel", ("attention",), 40, 150),
    _benchmark(
      "fp8",
      "the decoder's step in bfloat16 and in 8 bits",
      ("fp8", "--case=decoder", *_seconds(tiny, 15)),
      60,
      240,
    ),
    _benchmark(
      "decode",
      "generating beside transformers",
      ("decode", "--against=hf", *_seconds(tiny, 10)),
      80,
      240,
    ),
    _predictions(tiny),
  ]


def chosen(tiny: bool, names: str | None) -> list[Part]:
  """Returns the parts of a list of names with commas, in the order of their worth; None: all.

  A benchmark gets --json, and --tiny where it is tiny.

  Raises:
    ConfigurationError: there is no such part.
  """
  every = [_with_flags(part, tiny) for part in parts(tiny)]
  if tiny:  # On a CPU, which may be busy, it is compiling that takes long.
    every = [part._replace(most=_TINY_TIMES * part.most) for part in every]
  if names is None:
    return every
  requested = [name.strip() for name in names.split(",")]
  known = [part.name for part in every]
  for name in requested:
    if name not in known:
      raise ConfigurationError(
        f"--parts: there is no part {name!r}.{did_you_mean(name, known)} There are: "
        f"{', '.join(known)}."
      )
  return [part for part in every if part.name in requested]


def _with_flags(part: Part, tiny: bool) -> Part:
  if part.arguments[:1] != ("-m",) or not part.arguments[1].endswith(".benchmark"):
    return part
  arguments = (*part.arguments, "--json", *(["--tiny"] if tiny else []))
  return part._replace(arguments=arguments)


def _seconds(tiny: bool, seconds: int) -> tuple[str, ...]:
  return (f"--seconds={1 if tiny else seconds}",)


def _benchmark(
  name: str, about: str, words: Sequence[str], least: int, most: int, missing: str = ""
) -> Part:
  arguments = ("-m", f"{environment.PACKAGE}.benchmark", *words)
  return Part(name, about, arguments, least, most, missing)


def _beside_hf(name: str, case: str, tiny: bool, least: int, most: int) -> Part:
  missing = [x for x in ("torch", "transformers") if importlib.util.find_spec(x) is None]
  return _benchmark(
    name,
    f"a training step beside Hugging Face, {case}",
    ("step", "--against=hf", f"--case={case}", *_seconds(tiny, 15)),
    least,
    most,
    f"{' and '.join(missing)} not installed" if missing else "",
  )


def _tests(tiny: bool) -> Part:
  """Returns the part with the tests of kernels, which a clone has and an installed package not."""
  files = [_TESTS / name for name in (_TINY_TESTS if tiny else KERNEL_TESTS)]
  missing = "" if importlib.util.find_spec("pytest") else "pytest is not installed"
  missing = missing if files[0].exists() else "there is no folder tests/ beside launch/"
  there = [str(file) for file in files if file.exists()]
  # In one process, as it takes the GPU's memory: pyproject.toml's options are for many.
  options = ("-q", "-o", "addopts=--import-mode=importlib", "--junitxml={to}/tests.xml")
  arguments = ("-m", "pytest", *options, "-m", "not slow", *there)
  # GPUs multiply float32 in TensorFloat-32 by default, with three digits.
  exact = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
  about = "kernels against float64, documents of packed rows apart"
  return Part("tests", about, arguments, 30, 150, missing, exact)


def _predictions(tiny: bool) -> Part:
  """Returns the part that compares precompile's prices with this GPU, if that module is there."""
  there = (_BENCHMARKS / "predictions.py").exists()
  missing = "" if there else "launch/benchmarks/predictions.py is not there"
  return _benchmark(
    "predictions",
    "predicted memory and time beside measured ones",
    ("predictions",),
    60,
    300,
    "nothing tiny is predicted" if tiny else missing,
  )
