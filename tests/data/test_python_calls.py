"""Errors inside tf.data come out as they were raised, or name the damaged file."""

import os

import pytest
import tensorflow as tf

from t5x_style.data import iterator
from t5x_style.errors import UserError


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="Linux gives EIO there")
def test_a_disk_that_fails_is_named_with_what_to_do():
  dataset = tf.data.TFRecordDataset("/proc/self/mem").map(lambda text: {"text": text})
  with pytest.raises(
    UserError, match="read: /proc/self/mem; Input/output error. Correct that, and"
  ):
    list(iterator.arrays(dataset))


def test_damaged_records_are_no_fault_of_the_program(tmp_path):
  path = str(tmp_path / "records")
  with tf.io.TFRecordWriter(path) as writer:
    for _ in range(5):
      writer.write(b"x" * 1000)
  content = bytearray((tmp_path / "records").read_bytes())
  content[2500] ^= 1
  (tmp_path / "records").write_bytes(content)
  dataset = tf.data.TFRecordDataset(path).map(lambda text: {"text": text})
  with pytest.raises(UserError, match=r"records .* is damaged \(corrupted record at 2044\)"):
    list(iterator.arrays(dataset))
