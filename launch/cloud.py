"""Trains on machines of a cloud: python -m launch.cloud tpu run NAME --zone=ZONE ... -- FLAGS

What follows "--" are the flags of launch.train. Every command of gcloud is printed before it is
called; --dry_run only prints them. `launch.cloud gke` prints a manifest for Kubernetes.
"""

import functools
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags as absl_flags

from .configuration import actions, flags
from .process import command, environment, errors
from .process.errors import ConfigurationError
from .process.exit_codes import ExitCode

EXAMPLES = """\
python -m launch.cloud tpu run my-slice --zone=us-west4-a --topology=v5e:4x4 --spot -- \\
  --gin_file=my_run.gin --gin.MODEL_DIR="'gs://my-bucket/my_run'"
python -m launch.cloud tpu logs my-slice --zone=us-west4-a
python -m launch.cloud tpu delete my-slice --zone=us-west4-a
python -m launch.cloud gke my-run --topology=h100:2x8 --image=IMAGE -- \\
  --gin_file=my_run.gin --gin.MODEL_DIR="'gs://my-bucket/my_run'" | kubectl apply -f -"""

TARGETS = ("tpu", "gke")
TPU_ACTIONS = {
  "create": "queues the slices; Google creates them when there is room",
  "install": "copies this clone to every host and installs it",
  "run": "does both where needed, trains, follows, starts again after a preemption until done",
  "logs": "follows a run that is under way, until it ends",
  "status": "says whether the slices exist and whether a run is under way",
  "stop": "stops the run as Ctrl-C does: it saves. The slices stay, and are paid for",
  "delete": "deletes the slices: nothing more is paid for",
}
_ABOUT = """\
Trains on machines of a cloud. What follows "--" are the flags of launch.train.

Actions on Cloud TPU VMs, each as `tpu ACTION NAME --zone=ZONE`:
{}

`gke NAME` prints the manifest of a JobSet for Google Kubernetes Engine, with TPUs or GPUs.

Exit code: that of the run; launch/clusters/README.md lists them."""
_NAME = r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?"
_TAKES = {  # beside --zone, --project and --dry_run
  "create": ("topology", "slices", "spot", "reserved", "valid_until"),
  "run": ("topology", "slices", "spot", "reserved", "valid_until"),
}


def main(argv: Sequence[str]) -> int | None:
  before, train_flags = split(argv)
  values, words = flags.parse_own(
    before, about=_ABOUT.format(actions.listed(TPU_ACTIONS)), examples=EXAMPLES, define=_define
  )
  target, words = actions.chosen(words, TARGETS)
  environment.prepare()
  if target == "gke":
    with errors.as_configuration_errors():
      _gke(words, values, train_flags)
    return None
  action, names = actions.chosen(words, tuple(TPU_ACTIONS))
  with errors.as_configuration_errors():
    return _tpu(action, names, values, train_flags)


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
  """Returns the arguments before and after the first "--"."""
  arguments = list(argv)
  at = arguments.index("--") if "--" in arguments else len(arguments)
  return arguments[:at], arguments[at + 1 :]


def _tpu(action: str, names: Sequence[str], values: Any, train_flags: Sequence[str]) -> int | None:
  _check(action, names, values, train_flags)
  from .clusters import programs, queued_slices, tpu

  gcloud = programs.Programs(values.dry_run)
  to_create = _to_create(values) if values.topology else None
  slices = queued_slices.QueuedSlices(gcloud, names[0], values.zone, values.project, to_create)
  job = tpu.Tpu(gcloud, slices)
  if action == "logs":
    code = job.logs()
    if code is None and not values.dry_run:
      print("No run was started on these hosts, or they restarted: see status.")
      return ExitCode.UNEXPECTED
    return code
  if action == "status":
    state = slices.state()
    print(f"{names[0]}: {state or 'does not exist'}")
    if state == "ACTIVE" or values.dry_run:
      print(f"the run there: {job.host_state() or 'cannot be asked'}")
    return None
  if action == "delete" and slices.state() is None and not values.dry_run:
    raise ConfigurationError(
      f"There is no queued resource {names[0]!r} in {' '.join(slices.place)}: nothing is deleted. "
      f"`gcloud compute tpus queued-resources list {shlex.join(slices.place)}` shows what there is."
    )
  done_by: dict[str, Callable[[], int | None]] = {
    "create": slices.create,
    "install": job.install,
    "run": functools.partial(job.run, train_flags),
    "stop": job.stop,
    "delete": slices.delete,
  }
  try:
    return done_by[action]()
  except KeyboardInterrupt:
    if action == "run":
      print("\nA run that was started continues; the same command follows it again.")
    raise
  finally:
    _say_what_remains(slices)


def _say_what_remains(slices: Any) -> None:
  if remains := slices.what_remains():
    print(environment.as_started(remains))


def _to_create(values: Any) -> Any:
  """Returns the queued_slices.Slices that the flags request."""
  from t5x_style.planning import topologies

  from .clusters import queued_slices

  generation = values.topology.partition(":")[0]
  if generation not in queued_slices.SOFTWARE:
    raise ConfigurationError(
      f"--topology={values.topology} is no TPU of Google Cloud; write {topologies.EXAMPLES}."
    )
  return queued_slices.Slices(
    topology=values.topology,
    chips=topologies.parse(values.topology).chips,
    count=values.slices,
    capacity="spot" if values.spot else "reserved" if values.reserved else "on-demand",
    valid_until=values.valid_until,
  )


def _gke(names: Sequence[str], values: Any, train_flags: Sequence[str]) -> None:
  """Prints a manifest."""
  _check_name("gke", names)
  wrong = [name for name in ("zone", "project", "reserved", "valid_until") if values[name].present]
  if wrong:
    raise ConfigurationError(f"gke takes no --{wrong[0]}: kubectl's context says which cluster.")
  if not values.topology:
    raise ConfigurationError("--topology is missing: what to use, such as v5e:4x4 or h100:2x8.")
  if not values.image or not re.fullmatch(r"[\w./:@-]+", values.image):
    raise ConfigurationError(
      "--image has to be a container image, such as us-docker.pkg.dev/my-project/my/t5x_style:1."
    )
  _check_train_flags(train_flags)
  from .clusters import jobset

  print(
    jobset.manifest(
      names[0], values.topology, values.slices, values.image, values.spot, train_flags
    ),
    end="",
  )


def _check_name(what: str, names: Sequence[str]) -> None:
  if len(names) != 1:
    raise ConfigurationError(
      f"{what} takes one name, such as my-slice; {len(names)} were given. The flags of "
      'launch.train follow "--".'
    )
  _match("name", names[0], _NAME, "lower-case letters, digits and -, at most 40, as in my-slice")


def _check(action: str, names: Sequence[str], values: Any, train_flags: Sequence[str]) -> None:
  """Raises ConfigurationError for names and flags that are wrong or missing."""
  _check_name(f"tpu {action}", names)
  if not values.zone:
    raise ConfigurationError("--zone is missing: where the slices are, such as us-west4-a.")
  _match("--zone", values.zone, r"[a-z]+-[a-z]+\d+-[a-z]", "us-west4-a, for example")
  if values.project is not None:
    _match("--project", values.project, r"([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", "an id")
  if values.valid_until is not None:
    _match("--valid_until", values.valid_until, r"\d+[mhd]", "6h, for example")
  given = [name for name in (*_TAKES["run"], "image") if values[name].present]
  wrong = [name for name in given if name not in _TAKES.get(action, ())]
  if wrong:
    raise ConfigurationError(f"tpu {action} takes no --{wrong[0]}; --help says what does.")
  if action == "create" and not values.topology:
    raise ConfigurationError("--topology is missing: what to create, such as v5e:4x4.")
  if values.spot and values.reserved:
    raise ConfigurationError("--spot and --reserved exclude each other: give one of them.")
  if train_flags and action != "run":
    raise ConfigurationError(f'tpu {action} takes nothing after "--"; run does.')
  if action == "run":
    _check_train_flags(train_flags)


def _check_train_flags(train_flags: Sequence[str]) -> None:
  """Raises ConfigurationError for flags with which launch.train could not run on a slice."""
  if not any(re.match("--?gin_file(=|$)", flag) for flag in train_flags):
    raise ConfigurationError(
      'The flags of launch.train are missing after "--", such as -- --gin_file=my_run.gin '
      "--gin.MODEL_DIR=\"'gs://my-bucket/my_run'\"."
    )
  if any("\n" in flag or "\0" in flag for flag in train_flags):
    raise ConfigurationError("A flag after -- has several lines, which a shell would not keep.")


def _match(what: str, text: str, pattern: str, example: str) -> None:
  if not re.fullmatch(pattern, text):
    raise ConfigurationError(f"{what} {text!r} cannot be one: write {example}.")


def _define(values: absl_flags.FlagValues) -> None:
  for name, about in {
    "zone": "Where the slices are, such as us-west4-a.",
    "project": "The id of the project; gcloud's own setting by default.",
    "topology": "A TPU slice, such as v5e:4x4 or v5p:4x4x8; for gke also nodes x GPUs: h100:2x8.",
    "image": "gke: the container image.",
    "valid_until": "Give up if there is no room until then, such as 6h. Waits for ever by default.",
  }.items():
    absl_flags.DEFINE_string(name, None, about, flag_values=values)
  absl_flags.DEFINE_integer("slices", 1, "How many slices.", lower_bound=1, flag_values=values)
  for name, about in {
    "spot": "Cheaper slices that Google may take back at any time.",
    "reserved": "Slices of a reservation.",
    "dry_run": "Print the commands of gcloud; call none.",
  }.items():
    absl_flags.DEFINE_bool(name, False, about, flag_values=values)


if __name__ == "__main__":
  command.run(main)
