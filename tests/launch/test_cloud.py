"""What launch.cloud refuses, before it calls anything."""

import pytest

from launch import cloud
from launch.process.errors import ConfigurationError

GOOD = ["tpu", "run", "my-slice", "--zone=us-west4-a", "--topology=v5e:4x4"]
TRAIN = ["--", "--gin_file=my_run.gin"]


@pytest.mark.parametrize(
  ("words", "message"),
  [
    ([], "No action is given. Name one of: tpu, gke"),
    (["tpu", "rum"], "There is no action 'rum'. Did you mean 'run'"),
    (["tpu", "run", "a", "b"], "tpu run takes one name, such as my-slice; 2 were given"),
    (["tpu", "stop", "my slice"], "name 'my slice' cannot be one: write lower-case"),
    (["tpu", "stop", "it's"], 'name "it\'s" cannot be one'),
    (["tpu", "stop", "a;b"], "name 'a;b' cannot be one"),
    (["tpu", "stop", "-a"], "There is no flag -"),
    (["tpu", "stop", "a"], "--zone is missing"),
    (["tpu", "stop", "a", "--zone=us west"], "--zone 'us west' cannot be one"),
    (["tpu", "stop", "a", "--zone=us-west4-a", "--project=A b"], "--project 'A b' cannot be one"),
    (["tpu", "stop", "a", "--zone=us-west4-a", "--spot"], "tpu stop takes no --spot; --help says"),
    (["tpu", "stop", "a", "--zone=us-west4-a", *TRAIN], 'tpu stop takes nothing after "--"'),
    (["tpu", "create", "a", "--zone=us-west4-a"], "--topology is missing"),
    ([*GOOD, "--valid_until=soon", *TRAIN], "--valid_until 'soon' cannot be one: write 6h"),
    ([*GOOD, "--spot", "--reserved", *TRAIN], "--spot and --reserved exclude each other"),
    (GOOD, 'The flags of launch.train are missing after "--"'),
    (["gke", "My", *TRAIN], "name 'My' cannot be one"),
    (["gke", "a", *TRAIN], "--topology is missing"),
    (["gke", "a", "--topology=v5e:4x4", *TRAIN], "--image has to be a container image"),
    (["gke", "a", "--topology=v5e:4x4", "--image=a b", *TRAIN], "--image has to be a container"),
    (["gke", "a", "--zone=x", *TRAIN], "gke takes no --zone: kubectl's context"),
    (["gke", "a", "--topology=x100:2x8", "--image=a", *TRAIN], "is not known here. Write a TPU"),
    (["gke", "a", "--topology=h100:8", "--slices=2", "--image=a", *TRAIN], "is not known here"),
    (["gke", "a", "--topology=v5e:4x5", "--image=a", *TRAIN], "There is no v5e slice of 4x5"),
    ([*GOOD, *TRAIN, "--gin.A='a\nb'"], "has several lines"),
    ([*GOOD[:-1], "--topology=v9:4x4", *TRAIN], "--topology=v9:4x4 is no TPU of Google Cloud"),
    ([*GOOD[:-1], "--topology=v5e:4x5", *TRAIN], "There is no v5e slice of 4x5"),
  ],
)
def test_refused(words, message, monkeypatch):
  monkeypatch.setenv("PATH", "/nowhere")
  with pytest.raises(ConfigurationError) as error:
    cloud.main(["launch.cloud", *words])
  assert message in str(error.value)


def test_gcloud_is_not_installed(monkeypatch):
  monkeypatch.setenv("PATH", "/nowhere")
  with pytest.raises(ConfigurationError, match="The program 'gcloud' is not installed"):
    cloud.main(["launch.cloud", "tpu", "delete", "a", "--zone=us-west4-a"])
