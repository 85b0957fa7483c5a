#!/usr/bin/env bash
# One GPU, checked and measured: the tests marked `gpu`, then `python -m benchmarks.gpu`; together within 8 minutes.
# Needs this repository, torch, and what `make wheels` put into .whl where the machine has no network.
# The figures, a row of JSON for each part as it ends: ${OUT:-.}/gpu.jsonl.   DEVICE=cpu runs the same lines, tiny.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} OUT=${OUT:-.}
if compgen -G '.whl/*.whl' >/dev/null; then
  SITE=$(mktemp -d)
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$SITE" .whl/*.whl || exit 1
  PYTHONPATH=$SITE${PYTHONPATH:+:$PYTHONPATH}
fi
export PYTHONPATH=.${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if [ "$DEVICE" = cpu ]; then export MEDVLP_GPU_TESTS=cpu; fi
mapfile -t FILES < <(grep -rl --include='test_*.py' 'mark\.gpu' tests)
timeout 150 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider "${FILES[@]}"
TESTS=$?
timeout 320 "$PYTHON" -m benchmarks.gpu --device "$DEVICE" --output "$OUT/gpu.jsonl" --seconds 300 "$@"
MEASURED=$?
exit $((TESTS || MEASURED))
