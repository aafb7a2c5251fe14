#!/usr/bin/env bash
# Makes .venv and installs everything into it. Does nothing when that is already done.
#
#   bash scripts/setup.sh          the CPU stack (quickstart, tests): requirements-cpu.txt
#   bash scripts/setup.sh --gpu    the GPU stack: requirements.txt (CUDA, and a compiler for flash-attn)
#   bash scripts/setup.sh --lock   writes requirements-cpu.txt anew from requirements-cpu.in and requirements.txt
#
# PYTHON=/path/to/python3.11 chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

UV=uv==0.13.8
need_mib=6000
kind=cpu
lock=false
for argument in "$@"; do
    case $argument in
        --gpu) kind=gpu need_mib=20000 ;;
        --lock) lock=true ;;
        -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
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

if [ "$kind" = gpu ]; then requirements=(requirements.txt); else requirements=(requirements-cpu.txt requirements-cpu.excludes); fi

# What the environment was made from; a change of any of these installs again.
stamp=$(cat "${requirements[@]}" pyproject.toml scripts/setup.sh | cksum)
if [ "$lock" = false ] && [ "$(cat .venv/made_from 2>/dev/null)" = "$kind $stamp" ] && .venv/bin/python -c pass; then
    say "environment .venv is ready"
    exit 0
fi

before=$(cut -d ' ' -f 1 .venv/made_from 2>/dev/null || true)
[ "$lock" = true ] || [ -z "$before" ] || [ "$before" = "$kind" ] ||
    fail ".venv holds the environment for $before, this needs the one for $kind. Use a clone of its own for it, or remove .venv first (rm -r .venv)"

python=$(find_python)
free_mib=$(df -Pm . | awk 'NR == 2 {print $4}')
[ "$free_mib" -ge "$need_mib" ] || fail "$free_mib MiB free here, about $need_mib needed. Free some space or clone to another disk"

say "installing into $PWD/.venv with $("$python" --version) ($((need_mib / 1000)) GB at most; two minutes on a fast network)"
if ! .venv/bin/python -c pass 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv || fail "could not make .venv (on Debian and Ubuntu: apt-get install python3-venv)"
fi
no_network="the package index could not be reached or lacks a package (see above). Check the network, a proxy (HTTPS_PROXY) or a mirror (PIP_INDEX_URL), then run this again: what is there already is kept"
.venv/bin/python -m pip install --quiet "$UV" 2>&1 | { grep -v '^WARNING' || true; } || true
.venv/bin/uv --version >/dev/null 2>&1 || fail "$no_network"

# uv reads its own variables and not pip's.
export UV_INDEX_URL=${UV_INDEX_URL:-${PIP_INDEX_URL:-}} UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
[ -n "$UV_INDEX_URL" ] || unset UV_INDEX_URL
[ -n "$UV_FIND_LINKS" ] || unset UV_FIND_LINKS
export UV_PYTHON_DOWNLOADS=never
# Compiled here once, on all cores, instead of by five processes at the first start.
install() { .venv/bin/uv pip install --quiet --compile-bytecode --python .venv/bin/python "$@"; }

if [ "$lock" = true ]; then
    {
        head -n 2 requirements-cpu.txt
        .venv/bin/uv pip compile --quiet --universal --python-version 3.10 --no-annotate --no-header \
            --excludes requirements-cpu.excludes requirements-cpu.in
    } >requirements-cpu.txt.new || fail "$no_network"
    mv requirements-cpu.txt.new requirements-cpu.txt
    say "requirements-cpu.txt written"
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
    command -v nvcc >/dev/null || say "warning: no nvcc found; building flash-attn needs the CUDA toolkit"
    say "torch: $torch, then requirements.txt (flash-attn may build for a while)"
    install "$torch" setuptools wheel ninja packaging || fail "$no_network"
    install --no-build-isolation -r requirements.txt || fail "$no_network"
fi
install --no-deps --editable . || fail "this package did not install (see above)"
.venv/bin/python -m openrlhf_ktae.advantage.estimator >/dev/null || say "warning: the estimator's kernel did not compile; training compiles it again"
echo "$kind $stamp" >.venv/made_from
say "done in $((SECONDS - start)) s"
