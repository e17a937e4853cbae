"""Comparing objectives and models under one budget: the plan, and what the figures say.

  settings.py   Comparison: the candidates, the budget and the seeds, bound in gin
  measures.py   what is measured of a trained model, and how a measured value is stored

Imports no JAX and no gin: launch.compare starts the runs and reads what they wrote.
"""
