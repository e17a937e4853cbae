"""A disk without room, for tests of what is written to it."""

import contextlib
import resource

import pytest


@pytest.fixture
def no_room():
  """A context in which no file can grow beyond a number of bytes: the system refuses to write."""

  @contextlib.contextmanager
  def limited(size=1):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
      yield
    finally:
      resource.setrlimit(resource.RLIMIT_FSIZE, before)

  return limited
