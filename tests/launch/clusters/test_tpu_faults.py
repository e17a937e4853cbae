"""What launch.cloud does when the cloud has no room, or gcloud itself fails."""

import pytest

from t5x_style.errors import UserError

PLACE = ("my-slice", "--zone=us-west4-a")
RUN = ("tpu", "run", *PLACE, "--topology=v5e:4x4", "--spot")
TRAIN = ("--", "--gin_file=my_run.gin")
DESCRIBE = "queued-resources describe"


def lines(cloud, name, *words):
  (cloud.folder / name).write_text("".join(f"{word}\n" for word in words))


@pytest.mark.parametrize("end", ["FAILED", "SUSPENDED"])
def test_a_request_without_room_ends_the_command(cloud, end):
  lines(cloud, "states", "WAITING_FOR_RESOURCES", end)
  with pytest.raises(UserError, match=f"my-slice is {end} and never was ACTIVE"):
    cloud.run(*RUN, "--valid_until=6h", *TRAIN)
  assert len(cloud.calls("queued-resources", "create")) == 1


def test_an_error_of_describe_does_not_mean_that_nothing_exists(cloud):
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  lines(cloud, "fails", DESCRIBE)
  with pytest.raises(UserError, match="no network"):
    cloud.run(*RUN, *TRAIN)
  assert len(cloud.calls("queued-resources", "create")) == 1
  lines(cloud, "fails", DESCRIBE)
  with pytest.raises(UserError, match="no network"):
    cloud.run("tpu", "status", *PLACE)


def test_a_short_failure_of_the_network_does_not_end_the_command(cloud, capsys):
  lines(cloud, "states", *["WAITING_FOR_RESOURCES"] * 3, "ACTIVE")
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  lines(cloud, "fails", "tpu-vm scp", DESCRIBE, DESCRIBE)
  assert cloud.run(*RUN, *TRAIN) == 0
  assert capsys.readouterr().out.count("no network") == 3
  assert len(cloud.calls("queued-resources", "create")) == 1


def test_slices_that_are_being_taken_are_waited_for(cloud, capsys):
  lines(cloud, "states", "SUSPENDING", "SUSPENDING", "SUSPENDED")
  cloud.run("tpu", "create", *PLACE, "--topology=v5e:4x4")
  (cloud.folder / "states").unlink()
  assert cloud.run(*RUN, *TRAIN) == 0
  output = capsys.readouterr().out
  assert "my-slice is SUSPENDING; waiting." in output
  assert "my-slice is SUSPENDED: it is deleted and queued again." in output
