"""A batch that never comes: the run writes where it waits, ends, and resumes when started again."""

from launch.process.exit_codes import ExitCode
from tests.soak import references
from tests.soak.outcomes import Failed, Fault, Outcome
from tests.soak.trial import STEPS, Trial

# Longer than anything else takes on a busy machine.
SHORT = "--gin.HANG_MINUTES=0.5"


def _data_blocks(trial: Trial) -> Outcome:
  """The iterator of the data sleeps for ever, once."""
  never = 10 * STEPS
  trial.settings = [SHORT, f"--gin_file={references.HARMFUL}", f"--gin.HARM_FIRST={never}"]
  trial.own_settings = [
    "--gin.HARM='block'",
    f"--gin.HARM_ONCE='{trial.folder / 'blocked'}'",
    f"--gin.HARM_FIRST={trial.random.randint(1, STEPS)}",
  ]
  process = trial.start()
  trial.injected += 1
  trial.stopped_clearly(process, ExitCode.PROCESS_LOST, "HANG_MINUTES")
  stacks = [path.read_text() for path in trial.model_dir.glob("stacks-*.txt")]
  if not any("harmful_batches.py" in text for text in stacks):
    raise Failed(f"the stacks of {len(stacks)} files do not show where it waited")
  return trial.survived_exactly()


FAULTS = (Fault("hang", "the data blocks, HANG_MINUTES = 0.5", ("exact",), _data_blocks),)
