"""Ways to start the same launch.train on other machines: what launch.cloud does, and files to copy.

For TPU VMs queued_slices.py and tpu.py drive gcloud, tpu_host.sh runs on each host, run_log.py
reads what a run prints there, and restarts.py starts it again. jobset.py makes manifests for
Kubernetes. slurm.sbatch, skypilot.yaml and the Dockerfiles are used as they are. README.md says
what to set, and has the exit codes.
"""
