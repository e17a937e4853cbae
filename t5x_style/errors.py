"""The errors that a person can put right: their message is all there is to show."""


class UserError(ValueError):
  """What a person set, or a file that they gave, cannot work.

  The message says what is wrong, the value, where it was set and what to write instead: commands
  show it without a traceback. Any other exception is a fault of the program and keeps its own.
  """
