"""Checks all hosts of a job, in seconds: python -m launch.preflight --gin_file=my_run.gin

Start it as launch.train, on every host. It compares versions and settings, counts devices, measures
a matrix product and a sum over all devices, writes to MODEL_DIR and reads what the other hosts
wrote, and compares clocks, memory and disks. launch.train begins with the same checks where it has
several processes. Without --gin_file settings and MODEL_DIR are left out.
"""

from collections.abc import Sequence

from absl import flags as absl_flags

from .configuration import flags
from .process import command, distributed, environment, errors, same_start

EXAMPLES = """\
python -m launch.preflight
python -m launch.preflight --gin_file=my_run.gin --devices=32
python -m launch.preflight --coordinator_address=host0:12355 --process_count=2 --process_index=0"""


def main(argv: Sequence[str]) -> None:
  values = flags.parse(
    argv,
    about="Checks all hosts of a job: devices, versions, network, MODEL_DIR, clocks, memory, disk.",
    examples=EXAMPLES,
    define=_define,
    runs_model=False,
  )
  environment.prepare()
  with errors.as_configuration_errors():
    distributed.connect(values)
    facts, folder = same_start.software(), None
    if values.gin_file:
      settings = flags.read_configuration(values)
      facts, folder = settings.values() | facts, settings.macro("MODEL_DIR")
    same_start.check("settings", facts)

    from t5x_style.checkpoints import model_dir
    from t5x_style.reporting import terminal

    from .hosts import preflight

    if folder is not None:
      model_dir.check(folder)
    out = terminal.Terminal(enabled=same_start.place()[0] == 0)
    preflight.check(folder, out.note, values.devices)
    out.note("All hosts are ready.")


def _define(values: absl_flags.FlagValues) -> None:
  flags.define_processes(values)
  absl_flags.DEFINE_integer(
    "devices",
    None,
    "How many devices the whole job must have, e.g. 32 on a v5e:4x8.",
    lower_bound=1,
    flag_values=values,
  )


if __name__ == "__main__":
  command.run(main)
