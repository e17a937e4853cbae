"""What every host of a job shows before the first step, so that a fault is found in seconds.

report.py measures this host and reads no other; model_dir_probe.py finds out whether all processes
see the same MODEL_DIR; verdict.py compares the reports of all processes; preflight.py does all of
it, in training and for launch.preflight.
"""
