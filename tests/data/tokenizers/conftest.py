"""What the tests of the tokenizers share: small SentencePiece models with other options."""

import io
from pathlib import Path

import pytest
import sentencepiece as spm
from sentencepiece import sentencepiece_model_pb2


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
  """Trains a small SentencePiece model with the given options. The defaults are SentencePiece's:
  spaces as U+2581, one of them in front of the text, no bytes, normalisation."""

  def train(**options):
    path = tmp_path_factory.mktemp("models") / "foreign.model"
    content = io.BytesIO()
    options = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "vocab_size": 60} | options
    text = ["Thank you for inviting me to your party last week."] * 20
    spm.SentencePieceTrainer.train(
      sentence_iterator=iter(text),
      model_writer=content,
      hard_vocab_limit=False,
      minloglevel=2,
      **options,
    )
    path.write_bytes(content.getvalue())
    return str(path)

  return train


@pytest.fixture(scope="session")
def with_pieces():
  """Appends user-defined pieces to a model file."""

  def with_pieces(path, *pieces):
    model = sentencepiece_model_pb2.ModelProto.FromString(Path(path).read_bytes())
    for piece in pieces:
      model.pieces.add(piece=piece, type=model.SentencePiece.USER_DEFINED)
    Path(path).write_bytes(model.SerializeToString())
    return path

  return with_pieces
