"""What several corpora share: finding, checking, reading and caching files.

file_patterns.py      patterns of file names: the files that match
remote_files.py       files of buckets and servers, opened with fsspec
known_files.py        the files of a run, and whether they have changed
unpacking.py          gzip, bzip2, xz and Zstandard data
parts.py              parts of a corpus and their documents, without TensorFlow
Text:
file_formats.py       recognises by its bytes whether a file is UTF-8 text
text_reading.py       opens files and reads documents or lines
text_checks.py        checks text files before training
text_lengths.py       which lengths of texts are read
text_blocks.py        lines that are documents, in blocks
text_sources.py       SeqIO sources over text files
Records:
record_reader.py      what reads the records of a format: the protocol
record_formats.py     recognises the format of a file
json_lines.py         JSON lines
columnar_files.py     Parquet and Arrow
record_containers.py  TFRecord and ArrayRecord
record_texts.py       from the fields of a record to its text
record_tally.py       counts records that are left out or changed
record_files.py       all documents of files of records
record_sources.py     a SeqIO source over them
Caches:
record_cache.py       a cache of texts as TFRecord files
record_pieces.py      a cache that is half written
record_copy.py        copies JSON lines into such a cache
tfds_source.py        a SeqIO source over a dataset of TFDS
kept_open.py          files that are kept open where a reader stopped
"""
