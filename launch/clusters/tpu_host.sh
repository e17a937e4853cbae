#!/usr/bin/env bash
# Runs on a host of a TPU slice; launch.cloud calls it. One run at a time is under way on a host.
#   install       makes .venv with this package
#   start FLAGS   starts launch.train in the background, or leaves the run that is under way alone
#   follow FROM   prints the run's output until it ends, and then its exit code; FROM is +N, all from line N
#                 (of the run that began at a third argument; of a newer run all), or N, the last N lines
#   state         prints whether it is installed and whether a run is under way
#   stop          stops the run as Ctrl-C does: it saves
#   end           waits until the old run has ended, and ends one that hangs: it may still save
set -euo pipefail
cd "$(dirname "$0")/../.."

run=~/.t5x_style_run # lock: held while a run is under way; began, pid, log, code of the run
mkdir -p "$run"
is_running() { ! flock --nonblock "$run/lock" true; }
wait_for_end() { # exits when the run ends within so many seconds
  local seconds
  for ((seconds = 0; seconds < $1; seconds++)); do
    if ! is_running; then exit 0; fi
    sleep 1
  done
}

action=${1:?}
shift
trap 'echo "$action failed on the host $(hostname)." >&2' ERR
case $action in
  install)
    python3 -m pip install --quiet --user uv==0.9.5
    ~/.local/bin/uv venv --quiet --allow-existing --python=3.12 .venv
    ~/.local/bin/uv pip install --quiet --python=.venv --editable='.[tpu,gcs]'
    touch .venv/installed
    ;;
  start)
    exec 9>"$run/lock"
    if ! flock --nonblock 9; then
      echo "A run is under way on $(hostname)."
      exit 0
    fi
    rm -f "$run/code" "$run/pid"
    if [[ -e $run/log ]]; then mv "$run/log" "$run/log.previous"; fi
    date -u +%Y-%m-%dT%H:%M:%S.%NZ >"$run/began"
    # It keeps the lock, and has no connection to this shell that could break.
    setsid --fork bash "$PWD/launch/clusters/tpu_host.sh" train "$@" >"$run/log" 2>&1 </dev/null
    ;;
  train) # called by start
    set -m # Otherwise the run would ignore the signal of stop.
    .venv/bin/python -m launch.train "$@" &
    echo $! >"$run/pid.part" && mv "$run/pid.part" "$run/pid"
    code=0
    wait $! || code=$?
    echo "$code" >"$run/code.part" && mv "$run/code.part" "$run/code"
    ;;
  follow)
    until [[ -e $run/pid ]] || ! is_running; do sleep 0.2; done
    if [[ -e $run/pid ]]; then
      from=${1:-+1} began=$(cat "$run/began")
      if [[ $from != +* ]]; then
        from=$(($(wc -l <"$run/log") - from + 1))
        from=+$((from > 1 ? from : 1))
      elif [[ ${2:-$began} != "$began" ]]; then
        from=+1
      fi
      echo "Log of the run that began at $began, from line ${from#+}:"
      tail --quiet --lines="$from" --follow --pid="$(cat "$run/pid")" "$run/log"
    fi
    while is_running; do sleep 0.2; done
    if [[ -e $run/code ]]; then
      if [[ -n $(tail --bytes=1 "$run/log") ]]; then echo; fi # The last line was not finished.
      echo "The run ended with exit code $(cat "$run/code")."
    fi
    ;;
  state)
    if is_running; then
      echo "running"
    elif [[ ! -e .venv/installed ]]; then
      echo "not installed"
    elif [[ -e $run/code ]]; then
      echo "ended with exit code $(cat "$run/code"); it began at $(cat "$run/began")"
    else
      echo "ready"
    fi
    ;;
  stop)
    if is_running; then kill -INT "$(cat "$run/pid")"; fi
    ;;
  end)
    wait_for_end "${PATIENCE_SECONDS:-120}"
    kill -TERM "$(cat "$run/pid")" || true
    wait_for_end "${SAVE_SECONDS:-120}"
    kill -KILL "$(cat "$run/pid")" || true
    while is_running; do sleep 0.2; done
    ;;
  *)
    echo "There is no action $action." >&2
    exit 2
    ;;
esac
