"""Ways to start the same launch.train on other machines: what launch.cloud does, and files to copy.

tpu.py drives gcloud for TPU VMs, tpu_host.sh runs on each of their hosts, restarts.py starts a run
again by its exit code, jobset.py makes manifests for Kubernetes. slurm.sbatch, skypilot.yaml and
the Dockerfiles are used as they are. README.md says what to set, and has the exit codes.
"""
