# The environment of scripts/setup.sh in an image. The build context is a clone of this repository.
#
#   docker build --target cpu -t openrlhf_ktae:cpu .
#   docker run --rm -it --shm-size 4g -v "$PWD/runs:/opt/openrlhf_ktae/runs" openrlhf_ktae:cpu openrlhf-ktae train recipes/quickstart
#
#   docker build --target gpu -t openrlhf_ktae:gpu .    # CUDA 13; FLASH_ATTN_CUDA_ARCHS: what flash-attn is compiled for
#   docker run --rm -it --gpus all --ipc host -v "$PWD/runs:/opt/openrlhf_ktae/runs" openrlhf_ktae:gpu openrlhf-ktae doctor

FROM python:3.11-slim-bookworm AS cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# vLLM's CPU kernels are linked against libnuma.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates git libnuma1 procps \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/openrlhf_ktae
COPY . .
RUN bash scripts/setup.sh
ENV PATH=/opt/openrlhf_ktae/.venv/bin:$PATH
CMD ["openrlhf-ktae", "doctor"]

FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS gpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential ca-certificates git ninja-build procps \
        python3.12 python3.12-dev python3.12-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/openrlhf_ktae
COPY . .
ARG FLASH_ATTN_CUDA_ARCHS="80;90"
RUN FLASH_ATTN_CUDA_ARCHS="$FLASH_ATTN_CUDA_ARCHS" bash scripts/setup.sh --gpu
ENV PATH=/opt/openrlhf_ktae/.venv/bin:$PATH
CMD ["openrlhf-ktae", "doctor"]
