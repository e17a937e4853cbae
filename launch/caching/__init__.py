"""How launch.cache makes a token cache, and what it shows of one.

  corpus_documents.py  the documents of a corpus, in pieces of work that are read in parallel
  plan.py              what is to be done, in FOLDER/unfinished/plan.pickle
  tokenize.py          a piece of work becomes runs: tokens in the order of a hash of their text
  runs.py              the files of a run
  merge.py             the runs of all pieces become one shard
  statistics.py        what is counted
  pipeline.py          both steps as Apache Beam pipelines, in a process of its own
  make.py              the whole: what is done is skipped, the manifest is written last
  progress.py          what is shown meanwhile
  show.py              what is shown of a finished cache

Beam distributes the work; the documents themselves go through files in FOLDER/unfinished, not
through Beam's shuffle. So each piece of work is done once, a restart continues with what is left,
and memory does not grow with the corpus: a worker holds a run of tokenised documents (some 100 MB),
or 80 bytes for each document of a shard. On a cluster FOLDER must be a folder that all workers
share.
"""
