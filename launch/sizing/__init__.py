"""MINUTES or FLOPS instead of a size: what launch.train chooses then, before a run starts.

choice.py changes the configuration; conflicts.py refuses settings that decide the same; speed.py
measures steps on this machine; text_size.py finds out how much text there is.
t5x_style/planning/sizing.py says which size is the best for a number of FLOPs.
"""
