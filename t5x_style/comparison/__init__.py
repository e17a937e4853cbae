"""Comparing objectives and models under one budget: the plan, halving, and what the figures say.

  settings.py   Comparison: the candidates, the budget and the seeds, bound in gin
  measures.py   what is measured of a trained model, and how a measured value is stored
  budget.py     how many steps each candidate trains
  halving.py    which candidates train on (successive halving)
  outcome.py    means and spread over seeds, ties, and what to choose for which purpose

Imports no JAX and no gin: launch.compare starts the runs and reads what they wrote.
"""
