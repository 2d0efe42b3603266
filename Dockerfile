# Three images from one file:
#   docker build -t enlarger:cpu .                                  (small: ONNX Runtime's CPU wheel)
#   docker build -t enlarger:openvino --build-arg RUNTIME=openvino . (beside it OpenVINO, where it is faster: 180 MB more)
#   docker build -t enlarger:cuda --build-arg RUNTIME=cuda .        (CUDA and cuDNN from NVIDIA's wheels; the host brings the driver)
# Runs as any user on a read-only root; /tmp must be writable. `make image-test` builds and starts it without Docker.
ARG BASE=docker.io/library/debian:12-slim
ARG RUNTIME=cpu

FROM ${BASE} AS python
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/* /usr/share/doc/* /usr/share/man/*

# -- built here, thrown away but for /opt/enlarger ---------------------------------------------------------------
FROM python AS build
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3-venv
WORKDIR /src
COPY constraints.txt ./
# The service's own environment gets no pip: another environment's pip fills it.
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/enlarger \
    && /tools/bin/pip install --no-cache-dir -c constraints.txt setuptools
COPY pyproject.toml deploy/docker/requirements.py deploy/docker/cuda-constraints.txt ./
ARG RUNTIME=cpu
RUN /tools/bin/python requirements.py "$RUNTIME" > requirements.txt \
    && /tools/bin/pip --python /opt/enlarger/bin/python install --no-cache-dir \
        -c constraints.txt -c cuda-constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY app app
RUN /tools/bin/pip wheel --no-deps --no-build-isolation -w /wheels . \
    && /tools/bin/pip --python /opt/enlarger/bin/python install --no-deps --no-index /wheels/*.whl \
    && find /opt/enlarger -depth -type d -name tests -path "*/numpy/*" -exec rm -rf {} +

# -- what is shipped ---------------------------------------------------------------------------------------------
# What each image runs on if nobody says otherwise: a GPU must be there where it was built for one.
FROM python AS provider-cpu
ENV ENLARGER_PROVIDER=cpu
FROM python AS provider-openvino
ENV ENLARGER_PROVIDER=auto
FROM python AS provider-cuda
ENV ENLARGER_PROVIDER=cuda

FROM provider-${RUNTIME}
COPY models /opt/enlarger-models
ENV PATH=/opt/enlarger/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENLARGER_HOST=0.0.0.0 \
    ENLARGER_PORT=8000 \
    ENLARGER_MODELS=/opt/enlarger-models \
    ENLARGER_LOG_FORMAT=json \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=build /opt/enlarger /opt/enlarger
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f\"http://127.0.0.1:{os.environ['ENLARGER_PORT']}/healthz\", timeout=4)"]
CMD ["enlarger", "serve", "--supervise"]
