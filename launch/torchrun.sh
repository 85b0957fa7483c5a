#!/usr/bin/env bash
# One node, N ranks:   launch/torchrun.sh 8 recipes=clip_rocov2 run_name=eight
# Several nodes: on each,   NODES=4 NODE_RANK=0..3 MASTER_ADDR=<first node> launch/torchrun.sh 8 recipes=...
# SIGTERM (from a cluster, or Ctrl-C) saves a checkpoint and exits with 3; start again with resume=auto.
set -euo pipefail
RANKS=${1:?usage: launch/torchrun.sh <ranks per node> recipes=<name> [key=value ...]}
shift
CORES=$(nproc)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((CORES > RANKS ? CORES / RANKS : 1))}
exec torchrun \
  --nnodes "${NODES:-1}" --node-rank "${NODE_RANK:-0}" --nproc-per-node "$RANKS" \
  --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${MASTER_PORT:-29400}" \
  -m medvlp.train "$@"
