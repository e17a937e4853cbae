"""Prepares the process of a command, joins it to the other processes of a job, reports its errors.

A command does five things to its process that may surprise: on CPUs it starts itself again for
larger memory pages, in a job of several processes it forks a watchdog, it filters what TensorFlow
prints while it is imported, before training it freezes the objects of the garbage collector, and it
ends a run that makes no progress for HANG_MINUTES, as at a breakpoint.
T5X_STYLE_PLAIN_PROCESS=1 in the environment turns all five off, for debuggers and notebooks.

This is the lowest folder of launch: it imports neither launch.configuration nor launch.conversion.
"""
