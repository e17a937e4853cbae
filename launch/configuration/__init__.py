"""Reads flags and gin files, and checks every value in them.

  flags.py             the command line, and its --help page
  actions.py           commands that do one of several things
  reader.py            gin files and bindings -> a Configuration; imports what is named
  gin_values.py        the same files -> GinValues; imports nothing, checks only what is read
  stage_settings.py    the settings of the stages of a run -> a Configuration of each
  data_parameters.py   parameters of the data that commands override
  renamed.py           former names of functions and classes
Both readers share gin_files.py (files, includes, bindings) and gin_text.py (gin's syntax). A
Configuration also needs gin_names.py (what names mean) and gin_checks.py, gin_types.py and
gin_references.py (whether values are right).

Imports launch.process, never the other way round.
"""
