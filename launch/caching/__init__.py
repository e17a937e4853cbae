"""How launch.cache makes a token cache, and what it shows of one.

  request.py           what is asked for, from a run's corpus and vocabulary
  corpus_documents.py  the documents of a corpus, in pieces of work that are read in parallel
  plan.py              what is to be done, in FOLDER/unfinished
  tokenize.py          a piece of work becomes runs: tokens in the order of a hash of their text
  runs.py              the files of a run
  merge.py             the runs of all pieces become one shard
  statistics.py        what is counted
  steps.py             what a worker does
  pipeline.py          both steps as Apache Beam pipelines, in a process of its own
  make.py              the whole: what is done is skipped, the manifest is written last
  progress.py          what is shown meanwhile
  show.py              what is shown of a finished cache
  small.py             a small cache, written at once in this process

Beam distributes the work; the documents go through files in FOLDER/unfinished, not through Beam's
shuffle. So a restart does only the pieces that are left, two workers write the same bytes as
one, and memory does not grow with the corpus: a worker holds at most 64 MiB of tokens of 250,000
documents, or about 300 bytes for each document of a shard, of which a shard has 500,000, or as
many as --shards makes it, 10 million at most. FOLDER needs room for the tokens twice.

By default workers are processes of this machine. What follows "--" are flags for Beam, which choose
a cluster instead; FOLDER and the corpus then have to be in a file system that all its workers
mount, and this package has to be installed there. These have not been tried:
  -- --runner=FlinkRunner --flink_master=HOST:8081 --environment_type=EXTERNAL ...
  -- --runner=SparkRunner --spark_master_url=spark://HOST:7077 ...
  -- --runner=DataflowRunner --project=... --region=... --temp_location=gs://... ...
"""
