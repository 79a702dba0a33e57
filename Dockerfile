# syntax=docker/dockerfile:1
# Two images from one file: `api` (HTTP only, without torch) and `worker` (the model). Both run the `msd` command.

FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 10001 --create-home msd && install --directory --owner msd --group msd --mode 700 /data
WORKDIR /srv/msd
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY app ./app
COPY cli ./cli
COPY clients/python ./clients/python
COPY ms_core ./ms_core
COPY ms_jobs ./ms_jobs
COPY ms_lab ./ms_lab
COPY worker ./worker
ENV MSD_DATA_DIR=/data
VOLUME /data
ENTRYPOINT ["msd"]

FROM base AS api
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt ./clients/python .
USER 10001
EXPOSE 8000
# Every request needs a key, which `msd keys create` makes, unless MSD_AUTH=off.
CMD ["api", "--host", "0.0.0.0", "--allow-remote"]

FROM base AS worker
RUN --mount=type=cache,target=/root/.cache/pip pip install -c constraints.txt ./clients/python "/srv/msd[worker]"
COPY models ./models
# mini is in the image, other models are mounted; nothing is fetched, and the only places to write are /data and /tmp.
ENV MSD_MODELS_DIR=/srv/msd/models HF_HOME=/tmp/huggingface HF_HUB_OFFLINE=1
USER 10001
CMD ["worker"]
