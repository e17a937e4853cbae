"""The corpora a run can read, one file each; to add one, write a class as base.Corpus describes.

  python_stdlib.py     PythonStdlib: the standard library of the running Python
  text_files.py        TextFiles: text files of the user
  records.py           Records: files of records of the user: Parquet, TFRecord, ArrayRecord, Arrow
  jsonl.py             Jsonl: JSON lines of the user
  record_corpus.py     what the two share
  mixture.py           Mixture: several of the others, drawn at rates
  stdlib_packages.py   StdlibPackages: pieces of its code, and the packages they come from
  stdlib_functions.py  StdlibFunctions: its functions, and their names
  stdlib_examples.py   what the two share
  tfds.py              Tfds: a prepared dataset of TensorFlow Datasets
  token_cache.py       TokenCache: a cache of tokens that launch.cache made
reading/ has what several of them share. TensorFlow and SeqIO are imported when `source` is called;
`parts` and `read` of base.DocumentCorpus need neither.
"""

from t5x_style.data.corpora.jsonl import Jsonl
from t5x_style.data.corpora.mixture import Mixture
from t5x_style.data.corpora.python_stdlib import PythonStdlib
from t5x_style.data.corpora.records import Records
from t5x_style.data.corpora.stdlib_functions import StdlibFunctions
from t5x_style.data.corpora.stdlib_packages import StdlibPackages
from t5x_style.data.corpora.text_files import TextFiles
from t5x_style.data.corpora.tfds import Tfds
from t5x_style.data.corpora.token_cache import TokenCache

__all__ = [
  "Jsonl",
  "Mixture",
  "PythonStdlib",
  "Records",
  "StdlibFunctions",
  "StdlibPackages",
  "TextFiles",
  "Tfds",
  "TokenCache",
]
