"""What several corpora share: finding, checking, reading and caching files.

file_patterns.py      patterns of file names: the files that match
file_formats.py       recognises by its bytes whether a file is UTF-8 text
text_reading.py       opens text files and reads documents or lines
text_checks.py        checks text files before training
text_sources.py       SeqIO sources over text files
record_cache.py       a cache of texts as TFRecord files
jsonl_conversion.py   JSON lines to cached records
"""
