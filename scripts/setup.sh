#!/usr/bin/env bash
# Makes .venv and installs everything into it. Does nothing when that is already done.
#
#   bash scripts/setup.sh          the CPU stack (quickstart, tests): requirements-cpu.txt
#   bash scripts/setup.sh --gpu    the GPU stack (CUDA 13): requirements-gpu.txt, then flash-attn is tried
#   bash scripts/setup.sh --lock   writes requirements-cpu.txt and requirements-gpu.txt anew
#
# PYTHON=/path/to/python3.11 chooses the interpreter.
#
# flash-attn has no wheel for this torch and is compiled, which takes nvcc and up to an hour; runs work without it:
#   --no-flash-attn                leaves it out
#   --flash-attn                   tries it again in an environment that is ready
#   FLASH_ATTN_WHEEL=PATH_OR_URL   installs a wheel of your own
#   FLASH_ATTN_CUDA_ARCHS="90"     what to compile for (default: the GPUs found here); MAX_JOBS limits the compilers
set -euo pipefail
cd "$(dirname "$0")/.."

UV=uv==0.13.8
need_mib=6000
kind=cpu
lock=false
flash_attn=first
for argument in "$@"; do
    case $argument in
        --gpu) kind=gpu need_mib=20000 ;;
        --lock) lock=true ;;
        --flash-attn) flash_attn=again ;;
        --no-flash-attn) flash_attn=never ;;
        -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        *) echo "setup: unknown argument $argument; see --help" >&2; exit 2 ;;
    esac
done

say() { echo "[setup] $*"; }
fail() { echo "[setup] error: $*" >&2; exit 1; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.10 python3}; do
        if supported "$candidate"; then command -v "$candidate"; return; fi
    done
    fail "no Python 3.10, 3.11 or 3.12 found (python3 is $(python3 --version 2>&1 || echo missing)). Install one, or set PYTHON=/path/to/python3.11"
}

requirements=("requirements-$kind.txt" "requirements-$kind.excludes")

# uv reads its own variables and not pip's. Wheels of PIP_FIND_LINKS are for the CPU: a torch+cpu among them would win.
export UV_INDEX_URL=${UV_INDEX_URL:-${PIP_INDEX_URL:-}} UV_FIND_LINKS=${UV_FIND_LINKS:-}
[ "$kind" = gpu ] || UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
[ -n "$UV_INDEX_URL" ] || unset UV_INDEX_URL
[ -n "$UV_FIND_LINKS" ] || unset UV_FIND_LINKS
export UV_PYTHON_DOWNLOADS=never
# Compiled here once, on all cores, instead of by five processes at the first start.
install() { .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python "$@"; }

without_flash_attn() { # REASON
    say "without flash-attn: $1"
    say "  GPU recipes then use PyTorch SDPA for packed sequences: slower, more memory, the same result (docs/gpus.md)."
    say "  Later: bash scripts/setup.sh --gpu --flash-attn, or FLASH_ATTN_WHEEL=/path/to.whl bash scripts/setup.sh --gpu"
}

install_flash_attn() { # needs everything else installed: its build imports torch, psutil, packaging and setuptools
    local wanted archs nvcc cuda jobs log=.venv/flash_attn.log
    wanted=$(grep '^flash-attn==' requirements.txt)
    if [ -n "${FLASH_ATTN_WHEEL:-}" ]; then
        install --no-deps "$FLASH_ATTN_WHEEL" || fail "FLASH_ATTN_WHEEL=$FLASH_ATTN_WHEEL did not install (see above); it has to be built for $(grep '^torch==' requirements.txt), CUDA 13 and this Python"
        .venv/bin/python -c 'import flash_attn' || fail "FLASH_ATTN_WHEEL=$FLASH_ATTN_WHEEL does not import (see above): built for another torch, CUDA or Python"
        say "flash-attn: $FLASH_ATTN_WHEEL"
        return
    fi
    if [ "$flash_attn" = never ]; then without_flash_attn "left out as asked"; return; fi
    # A binary for x.0 runs on every x.y; flash-attn names its targets so.
    archs=${FLASH_ATTN_CUDA_ARCHS:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null |
        sed -n 's/^ *\([0-9]*\)\.[0-9]*.*/\10/p' | sort -un | paste -sd ';' || true)}
    [ -n "$archs" ] || { without_flash_attn "no GPU here to compile for (FLASH_ATTN_CUDA_ARCHS=90 says H100 and H200)"; return; }
    nvcc=${CUDA_HOME:+$CUDA_HOME/bin/}nvcc
    nvcc=$(command -v "$nvcc" || command -v /usr/local/cuda/bin/nvcc || true)
    [ -n "$nvcc" ] || { without_flash_attn "no nvcc; install the CUDA 13 toolkit, or set CUDA_HOME"; return; }
    cuda=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    [ "$cuda" = 13 ] || { without_flash_attn "$nvcc is of CUDA $cuda, torch of CUDA 13; install the CUDA 13 toolkit, or set CUDA_HOME"; return; }
    jobs=$(awk -v cores="$(nproc)" '/^MemAvailable/ {n = int($2 / 9437184); m = int(cores / 2); if (n > m) n = m; print (n < 1 ? 1 : n)}' /proc/meminfo)
    jobs=${MAX_JOBS:-$jobs}
    say "$wanted: compiling for $archs with $jobs jobs, up to an hour (log: $log)"
    if PATH="$PWD/.venv/bin:$PATH" CUDA_HOME=${CUDA_HOME:-$(dirname "$(dirname "$(realpath "$nvcc")")")} \
        FLASH_ATTN_CUDA_ARCHS="$archs" MAX_JOBS="$jobs" \
        .venv/bin/uv pip install --verbose --no-deps --no-build-isolation --python .venv/bin/python "$wanted" >"$log" 2>&1 &&
        .venv/bin/python -c 'import flash_attn' >>"$log" 2>&1; then
        say "flash-attn: ready"
    else
        tail -n 15 "$log" >&2
        without_flash_attn "it did not build or import (the end of $log is above); a smaller MAX_JOBS helps where memory ran out"
    fi
}

# What the environment was made from; a change of any of these installs again.
stamp=$(cat "${requirements[@]}" pyproject.toml scripts/setup.sh | cksum)
if [ "$lock" = false ] && [ "$(cat .venv/made_from 2>/dev/null)" = "$kind $stamp" ] && .venv/bin/python -c pass; then
    if [ "$kind" = gpu ] && { [ "$flash_attn" = again ] || [ -n "${FLASH_ATTN_WHEEL:-}" ]; }; then install_flash_attn; fi
    say "environment .venv is ready"
    exit 0
fi

before=$(cut -d ' ' -f 1 .venv/made_from 2>/dev/null || true)
[ "$lock" = true ] || [ -z "$before" ] || [ "$before" = "$kind" ] ||
    fail ".venv holds the environment for $before, this needs the one for $kind. Use a clone of its own for it, or remove .venv first (rm -r .venv)"

python=$(find_python)
free_mib=$(df -Pm . | awk 'NR == 2 {print $4}')
[ "$free_mib" -ge "$need_mib" ] || fail "$free_mib MiB free here, about $need_mib needed. Free some space or clone to another disk"

say "installing into $PWD/.venv with $("$python" --version) ($((need_mib / 1000)) GB at most; minutes on a fast network)"
if ! .venv/bin/python -c pass 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv || fail "could not make .venv (on Debian and Ubuntu: apt-get install python3-venv)"
fi
no_network="the package index could not be reached or lacks a package (see above). Check the network, a proxy (HTTPS_PROXY) or a mirror (PIP_INDEX_URL), then run this again: what is there already is kept"
.venv/bin/python -m pip install --quiet "$UV" 2>&1 | { grep -v '^WARNING' || true; } || true
.venv/bin/uv --version >/dev/null 2>&1 || fail "$no_network"

lock() { # KIND INPUT OUTPUT: resolves anew; versions that OUTPUT holds already are taken where they can be
    env -u UV_FIND_LINKS .venv/bin/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header \
        --excludes "requirements-$1.excludes" "$2" --output-file "$3" >/dev/null
}
if [ "$lock" = true ]; then
    new=$(mktemp -d)
    trap 'rm -rf "$new"' EXIT
    lock cpu requirements-cpu.in "$new/cpu" || fail "$no_network"
    # What both stacks can share, they share.
    cp "$new/cpu" "$new/gpu"
    lock gpu requirements.txt "$new/gpu" || fail "$no_network"
    for name in cpu gpu; do
        { sed -n '/^#/!q;p' "requirements-$name.txt"; cat "$new/$name"; } >"$new/$name.txt"
        mv "$new/$name.txt" "requirements-$name.txt"
    done
    say "requirements-cpu.txt and requirements-gpu.txt written"
    exit 0
fi

torch=$(grep '^torch==' requirements.txt)
start=$SECONDS
if [ "$kind" = cpu ]; then
    say "torch: $torch, CPU build"
    if ! install "$torch+cpu" 2>/dev/null; then
        say "the package index has no CPU build of torch; taking it from PyTorch's own index"
        install --torch-backend cpu "$torch" || fail "$no_network"
    fi
    say "OpenRLHF, Ray, vLLM, DeepSpeed and the rest: requirements-cpu.txt"
    install --excludes requirements-cpu.excludes -r requirements-cpu.txt || fail "$no_network"
else
    say "$torch, vLLM, OpenRLHF, DeepSpeed and the rest for CUDA 13: requirements-gpu.txt (about 4 GB to download)"
    install --excludes requirements-gpu.excludes -r requirements-gpu.txt || fail "$no_network"
    .venv/bin/python -c 'import sys, torch; sys.exit(not torch.version.cuda)' ||
        fail "torch is a build without CUDA; is there one in UV_FIND_LINKS or on your index? Remove .venv and run this again without it"
    .venv/bin/python -c 'import vllm, deepspeed, openrlhf' >/dev/null || fail "what was installed does not import (see above)"
    install_flash_attn
fi
install --no-deps --editable . || fail "this package did not install (see above)"
.venv/bin/python -m openrlhf_ktae.advantage.estimator >/dev/null || say "warning: the estimator's kernel did not compile; training compiles it again"
echo "$kind $stamp" >.venv/made_from
say "done in $((SECONDS - start)) s"
