"""Manifests for Kubernetes: what they request, and that Kubernetes takes them."""

import pytest
import yaml

from launch.clusters import jobset

FLAGS = ("--gin_file=my_run.gin", "--gin.MODEL_DIR='gs://b/it is \"x\"'")


def manifest(topology, slices=1, spot=False):
  return yaml.safe_load(jobset.manifest("my-run", topology, slices, "image:1", spot, FLAGS))


def job_and_pod(whole):
  (job,) = whole["spec"]["replicatedJobs"]
  return job, job["template"]["spec"], job["template"]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
  ("topology", "slices", "accelerator", "hosts", "chips"),
  [
    ("v5e:4x4", 1, "tpu-v5-lite-podslice", 4, 4),
    ("v5e:2x4", 1, "tpu-v5-lite-podslice", 1, 8),
    ("v6e:16x16", 2, "tpu-v6e-slice", 64, 4),
    ("v5p:4x4x8", 1, "tpu-v5p-slice", 32, 4),
    ("v4:2x2x1", 1, "tpu-v4-podslice", 1, 4),
  ],
)
def test_slices(topology, slices, accelerator, hosts, chips):
  whole = manifest(topology, slices)
  job, spec, pod = job_and_pod(whole)
  assert job["replicas"] == slices
  assert spec["parallelism"] == spec["completions"] == hosts
  assert pod["nodeSelector"] == {
    "cloud.google.com/gke-tpu-accelerator": accelerator,
    "cloud.google.com/gke-tpu-topology": topology.partition(":")[2],
  }
  (container,) = pod["containers"]
  assert container["resources"]["limits"] == {"google.com/tpu": chips}
  assert container["command"][:3] == ["python", "-m", "t5x_style.launch.train"]
  assert tuple(container["command"][-2:]) == FLAGS
  (pool,) = whole["metadata"]["annotations"].items()
  assert pool == ("alpha.jobset.sigs.k8s.io/exclusive-topology", "cloud.google.com/gke-nodepool")


def test_gpus():
  _, spec, pod = job_and_pod(manifest("h100:2x8"))
  assert spec["parallelism"] == spec["completions"] == 2
  assert pod["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"}
  (container,) = pod["containers"]
  assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
  environ = {entry["name"]: entry for entry in container["env"]}
  # JobSets name the hosts JOBSET-JOB-REPLICA-INDEX, in a subdomain of their own name.
  assert environ["JAX_COORDINATOR_ADDRESS"]["value"] == "my-run-hosts-0-0.my-run:12355"
  assert environ["JAX_NUM_PROCESSES"]["value"] == "2"
  assert "securityContext" not in container


def test_a_failed_host_has_all_start_again_unless_it_would_fail_again():
  whole = manifest("v5e:4x4")
  _, spec, pod = job_and_pod(whole)
  assert (spec["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
  (rule,) = spec["podFailurePolicy"]["rules"]
  assert rule["onExitCodes"]["values"] == [2, 3, 4, 65, 130, 141]
  policy = whole["spec"]["failurePolicy"]
  assert [x["action"] for x in policy["rules"]] == ["FailJobSet"] and policy["maxRestarts"] == 20
  # Kubernetes kills what has not saved by then.
  assert (
    f"--grace_seconds={pod['terminationGracePeriodSeconds'] - 10}"
    in pod["containers"][0]["command"]
  )


def test_spot():
  whole = manifest("l4:1", spot=True)
  _, _, pod = job_and_pod(whole)
  # The restarts of the whole life count, and nodes are taken often.
  assert whole["spec"]["failurePolicy"]["maxRestarts"] == 200
  assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"


@pytest.mark.parametrize("topology", ["v5e:4x8", "h100:2x8"])
def test_kubernetes_takes_the_jobs(topology):
  """By the schema of Job; JobSets have no schema in a package."""
  kubernetes_validate = pytest.importorskip("kubernetes_validate")
  whole = manifest(topology, spot=True)
  assert set(whole) == {"apiVersion", "kind", "metadata", "spec"}
  _, spec, _ = job_and_pod(whole)
  job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": whole["metadata"], "spec": spec}
  kubernetes_validate.validate(job, "1.33", strict=True)
  spec["template"]["spec"]["containers"][0]["comand"] = []
  with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
    kubernetes_validate.validate(job, "1.33", strict=True)
