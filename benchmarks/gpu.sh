#!/usr/bin/env bash
# Everything that only a GPU can tell, in one command, on a bare machine that has PyTorch with CUDA and transformers.
#
#   benchmarks/gpu.sh                     tests marked gpu, then speed and memory at full size -> benchmarks/results/gpu.json
#   benchmarks/gpu.sh --dry-run           the same with tiny sizes on the CPU, to see that it works (the tests are skipped)
#   benchmarks/gpu.sh --train-mini [DIR]  one piece of eight minutes of training of the bundled model; again to go on.
#                                         DIR holds sprites.zip, as `msd train mini --artwork` leaves it there
#   benchmarks/gpu.sh --train-sdxl        speed and memory of training SDXL's adapter -> benchmarks/results/gpu-training.json
#   benchmarks/gpu.sh --fetch-wheels      where there is a package index: put the missing packages into benchmarks/wheels
#
#   PYTHON=...   the interpreter, by default .venv/bin/python if there is one, else python3
#   OUT=...      where results go, by default benchmarks/results
#   MACHINE_PYTHON=...  the bare machine's Python, for --fetch-wheels; by default 3.12
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
OUT=${OUT:-benchmarks/results}
WHEELS=benchmarks/wheels
# What is needed beside PyTorch, transformers 5, accelerate, safetensors, numpy, Pillow and pytest, with what those need.
# tests/support/bare_gpu_machine.py blocks everything else, so that a package missing here fails a test.
PACKAGES=(diffusers huggingface-hub httpx2 httpcore2 h11 anyio truststore importlib-metadata zipp jaxtyping wadler-lindig beartype
    hypothesis sortedcontainers pydantic pydantic-core annotated-types typing-inspection pydantic-settings python-dotenv
    typer click shellingham rich markdown-it-py mdurl annotated-doc structlog redis rq croniter python-dateutil nvidia-ml-py
    prometheus-client lazy-importer cachetools)
# The machine's Python, which wheels with compiled code are made for.
MACHINE_PYTHON=${MACHINE_PYTHON:-3.12}

fetch_wheels() {
    "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$MACHINE_PYTHON" \
        --constraint constraints.txt --dest "$WHEELS" "${PACKAGES[@]}"
    du -sh "$WHEELS"
}

install_wheels() {
    [ -d "$WHEELS" ] || return 0
    # Beside the machine's own packages, never into them.
    site=$(mktemp -d)
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl
    export PYTHONPATH="$site:${PYTHONPATH:-}"
}

case " $* " in *" --help "*) set -- --help ;; esac
export PYTHONPATH="$PWD:${PYTHONPATH:-}"
export PYTHONUNBUFFERED=1
case "${1:-}" in
--fetch-wheels)
    fetch_wheels
    ;;
--train-mini)
    install_wheels
    "$PYTHON" -m cli.main train mini --out "${2:-runs/mini-gpu}" --device cuda --minutes 8
    ;;
--train-sdxl)
    install_wheels
    "$PYTHON" benchmarks/gpu_training.py --out "$OUT/gpu-training.json"
    ;;
--dry-run)
    install_wheels
    "$PYTHON" -m pytest -q -m gpu tests/gpu
    "$PYTHON" benchmarks/gpu.py --dry-run --out "$OUT/gpu-dry-run.json"
    "$PYTHON" benchmarks/gpu_training.py --dry-run --out "$OUT/gpu-training-dry-run.json"
    ;;
"")
    install_wheels
    # A failing test must not keep the measurements from being made.
    status=0
    "$PYTHON" -m pytest -q -m gpu tests/gpu || status=$?
    "$PYTHON" benchmarks/gpu.py --out "$OUT/gpu.json"
    exit "$status"
    ;;
*)
    sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
