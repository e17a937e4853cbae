"""Parameters of t5x_style.data that commands override.

They are names, not imports, as importing them takes TensorFlow; the test of this file imports them.
"""

CORPUS = "t5x_style.data.loader.load.corpus"
REPLAY_CORPUS = "t5x_style.data.loader.load.replay_corpus"
VOCABULARY = "t5x_style.data.loader.load.vocabulary"
TFDS_DATA_DIR = "t5x_style.data.corpora.Tfds.data_dir"
