# syntax=docker/dockerfile:1
# One image for every process of Semblance; which one it is, the command says.
#
#   docker build -t semblance .
#
# computes on the CPU and, with the NVIDIA container runtime, on GPUs: PyTorch's own wheels carry CUDA.
# An image without CUDA, smaller by gigabytes, takes PyTorch from an index of CPU builds:
#
#   docker build -t semblance:cpu --build-arg TORCH_INDEX=<URL of the index> .
#
# Behind a proxy or mirror of PyPI, pass pip's own variables as build secrets or a pip.conf.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ARG TORCH_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_CACHE_DIR=/var/cache/pip
WORKDIR /source
RUN python -m venv /opt/semblance
ENV PATH=/opt/semblance/bin:$PATH
COPY pyproject.toml constraints.txt ./
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3042  # the cache is a mount, not part of the image
RUN --mount=type=cache,target=/var/cache/pip \
    if [ -n "$TORCH_INDEX" ]; then \
        pip install --constraint constraints.txt --index-url "$TORCH_INDEX" torch torchvision; \
    fi; \
    python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > requirements.txt; \
    pip install --constraint constraints.txt --requirement requirements.txt; \
    release=$(sed -n 's/^opencv-contrib-python==//p' constraints.txt); \
    pip install --force-reinstall --no-deps "opencv-contrib-python-headless==$release"
COPY LICENSE NOTICE README.md ./
COPY service service
COPY reporting reporting
COPY dicom_node dicom_node
COPY migrations migrations
# hadolint ignore=DL3042  # the cache is a mount, not part of the image
RUN --mount=type=cache,target=/var/cache/pip \
    pip install --no-deps . && python -m compileall -q /opt/semblance/lib

FROM ${PYTHON_IMAGE} AS run
RUN groupadd --gid 10001 semblance \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin semblance \
    && install --directory --owner=10001 --group=10001 /var/lib/semblance /var/lib/semblance/store
COPY --from=build /opt/semblance /opt/semblance
ENV PATH=/opt/semblance/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    SEMBLANCE_STORAGE_DIR=/var/lib/semblance/store
USER 10001:10001
WORKDIR /var/lib/semblance
VOLUME ["/var/lib/semblance/store"]
EXPOSE 11112 8080
STOPSIGNAL SIGTERM
CMD ["semblance", "--help"]
