"""Random access: row g of a run is a function of the configuration and g, read from a token cache.

  permutation.py   the order of an epoch, computed: no list of it is kept
  schedule.py      which component of a mixture each row of the run comes from
  units.py         what an epoch consists of: windows of the joined documents, of each document, ...
  packing_plan.py  which short examples share a row, planned once and saved beside the cache
  examples.py      what an objective makes of units
  rows.py          numbers of rows -> the features that the model gets
  batches.py       batches of this process, read ahead by Grain, and the place in them
  dataset.py       the dataset of a run on a cache
So a run resumes at any step at once, with any number of processes, and launch.where can say where a
row came from. Nothing here imports TensorFlow.
"""
