#!/usr/bin/env bash
# Trains on every host of a Cloud TPU slice: launch/cloud/tpu_slice.sh NAME ZONE [flags of launch.train ...]
#
# The hosts need a clone in ~/t5x_style, installed with '.[tpu]'; MODEL_DIR has to be in a bucket:
#   launch/cloud/tpu_slice.sh my-slice us-east5-a --gin_file=quickstart.gin --gin.MODEL_DIR="'gs://bucket/run'"
set -euo pipefail

if (($# < 2)); then
  sed -n '2,5s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
name=$1 zone=$2
shift 2
# Quoted, because a shell on the hosts reads the arguments again.
printf -v arguments ' %q' "$@"
for ((start = 0; ; start++)); do
  code=0
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
    --command="cd ~/t5x_style && python3 -m launch.train$arguments" || code=$?
  # Stopped and saved, or a process is lost: launch/cloud/README.md lists the exit codes.
  if ((code != 75 && code != 76)) || ((start >= ${MOST_RESTARTS:-20})); then exit "$code"; fi
  echo "Exit code $code: starting again on all hosts." >&2
  sleep "${RESTART_SECONDS:-30}" # The other hosts notice within a minute that one is gone.
done
