"""Prepares the process of a command, joins it to the other processes of a job, reports its errors.

A command does four things to its process that may surprise: on CPUs it starts itself again for
larger memory pages, in a job of several processes it forks a watchdog, it filters what TensorFlow
prints while it is imported, and before training it freezes the objects of the garbage collector.
T5X_STYLE_PLAIN_PROCESS=1 in the environment turns all four off, for debuggers and notebooks.

This is the lowest folder of launch: it imports neither launch.configuration nor launch.conversion.
"""
