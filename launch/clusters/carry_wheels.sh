#!/usr/bin/env bash
# Downloads what a machine without a network lacks: launch/clusters/carry_wheels.sh FOLDER [PYTHON]
#
# The machine is expected to have JAX for its GPU, Flax, Optax, Orbax, PyTorch and transformers, but nothing
# of this package's other requirements. PYTHON is its version, 3.12 by default. Further packages can be named in
# MORE, each with its version if need be: MORE="tokamax einshape qwix" launch/clusters/carry_wheels.sh wheels
# Copy FOLDER and a clone there, and in the clone:
#   python3 -m pip install --no-index --no-deps --target=/tmp/site FOLDER/*.whl
#   PYTHONPATH=/tmp/site python3 -m launch.benchmark gpu --minutes=10 --to=gpu_day
set -euo pipefail

if (($# < 1)); then
  sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
folder=$1
tags=(--only-binary=:all: --implementation cp --python-version "${2:-3.12}")
for tag in 2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17 2014 1; do
  if [[ $tag == 2_* ]]; then tag=_$tag; fi
  tags+=(--platform "manylinux${tag}_x86_64")
done
read -ra more <<<"${MORE:-}"
# What runs on a token cache need, without TensorFlow, SeqIO or Beam: only runs that read text need these.
python3 -m pip download -q "${tags[@]}" -d "$folder" pydantic # with the one pydantic-core that it takes
python3 -m pip download -q "${tags[@]}" -d "$folder" --no-deps gin-config tensorboardX array_record grain \
  portpicker google-crc32c cityhash backports.zstd "${more[@]}"
du -sh "$folder"
