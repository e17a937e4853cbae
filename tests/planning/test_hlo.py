"""Texts of programs are parsed: instructions, loops and how often they run."""

from t5x_style.planning import hlo
from tests.planning.tpu_program import PROGRAM


def test_an_instruction_on_several_lines():
  body = hlo.parse(PROGRAM).computations["body"]
  assert body["kernel"].op_name == "splash"
  assert [*body][-1] == "out"


def test_loops_run_their_bodies_as_often_as_they_count():
  """From 1 to 5; the fusions inside are part of their instructions."""
  program = hlo.parse(PROGRAM)
  assert program.entry == "main"
  assert hlo.scheduled(program) == {"main": 1, "body": 4}


def test_bytes_of_shapes():
  assert hlo.bytes_of((("bf16", (2, 8)), ("f8e4m3fn", (3,)), ("pred", ()), ("s4", (4,)))) == 38
