#!/usr/bin/env bash
# One node, N ranks:   launch/torchrun.sh 4 recipes=clip_rocov2 run_name=four
# Several nodes: on each,   NODES=4 NODE_RANK=0..3 MASTER_ADDR=<first node> launch/torchrun.sh 8 recipes=...
# SIGTERM (from a cluster, or Ctrl-C) saves a checkpoint and exits with 3; start again with resume=auto.
set -euo pipefail
RANKS=${1:?usage: launch/torchrun.sh <ranks per node> recipes=<name> [key=value ...]}
shift
CORES=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((CORES > RANKS ? CORES / RANKS : 1))}
if [ "${NODES:-1}" -eq 1 ]; then
  RENDEZVOUS=(--standalone)
else
  RENDEZVOUS=(--nnodes "$NODES" --node-rank "$NODE_RANK" --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29400}")
fi
exec torchrun "${RENDEZVOUS[@]}" --nproc-per-node "$RANKS" -m medvlp.train "$@"
