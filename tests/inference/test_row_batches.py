"""Rows in batches: nothing is lost, and there are few shapes."""

from t5x_style.inference.row_batches import bucket_length, fine_bucket, power_of_two, row_batches


def test_every_row_comes_once_as_it_was():
  rows = [[7] * n for n in (3, 40, 0, 16, 17, 1, 33, 2)]
  seen = {}
  for batch in row_batches(rows, batch_size=3, pad_id=9):
    assert batch.tokens.shape == batch.segments.shape and len(batch.tokens) == 3
    for place, i in enumerate(batch.indices):
      count = batch.segments[place].sum()
      seen[i] = batch.tokens[place, :count].tolist()
      assert (batch.tokens[place, count:] == 9).all()
    assert not batch.segments[len(batch.indices) :].any()
  assert seen == dict(enumerate(rows))


def test_lengths_are_powers_of_two_and_no_longer_than_the_positions():
  assert [bucket_length(n) for n in (0, 1, 16, 17, 32, 500)] == [16, 16, 16, 32, 32, 512]
  assert [bucket_length(n, 40) for n in (1, 33, 40)] == [16, 40, 40]
  assert bucket_length(3, 8) == 8
  assert [power_of_two(n) for n in (0, 1, 2, 3, 5, 64)] == [1, 1, 2, 4, 8, 64]
  shapes = {
    b.tokens.shape for b in row_batches([[1] * n for n in range(1, 65)], batch_size=4, pad_id=0)
  }
  assert shapes == {(4, 16), (4, 32), (4, 64)}
  assert {b.tokens.shape for b in row_batches([[1]] * 3, batch_size=16, pad_id=0)} == {(4, 16)}


def test_sizes_of_buckets():
  assert [fine_bucket(n) for n in (1, 16, 17, 24, 25, 33, 48, 49, 65, 1025)] == [
    *(16, 16, 24, 24, 32, 48, 48, 64, 96, 1536)
  ]
  assert fine_bucket(40, limit=44) == 44 and [fine_bucket(n, least=1) for n in (1, 2, 3, 5)] == [
    1,
    2,
    3,
    6,
  ]
