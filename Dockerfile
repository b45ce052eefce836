# One image for workers, beat and Flower; the arguments choose which one a container is.
#
#   docker build -t celery-platform .
#   docker build -t billing --build-arg TASKS=billing/tasks --build-arg BEAT=billing/beat .
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# The dependencies are a layer of their own: a change of code does not install them again.
COPY requirements.image.lock ./
RUN python -m venv /opt/platform \
    && /opt/platform/bin/pip install --require-hashes -r requirements.image.lock
COPY pyproject.toml README.md LICENSE ./
COPY platform ./platform
RUN pip wheel --no-deps --wheel-dir dist . \
    && /opt/platform/bin/pip install --no-deps --no-index dist/*.whl

FROM python:${PYTHON_VERSION}-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="celery-platform" \
      org.opencontainers.image.description="Celery Platform with the tasks of one deployment" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# /tmp is the only folder a container needs to write to; mount it when the rest is read-only.
ENV PATH=/opt/platform/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
RUN groupadd --system --gid 10001 celery \
    && useradd --system --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin celery \
    && install -d -o celery -g celery /var/lib/celery-platform
COPY --from=build /opt/platform /opt/platform
WORKDIR /srv
# The packages of the deployment, as folders of the build context. They belong to root: no task can change them.
ARG TASKS=tasks
ARG BEAT=beat
COPY ${TASKS} ./tasks
COPY ${BEAT} ./beat
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
STOPSIGNAL SIGTERM
# In exec form no shell stands between the engine and Celery, and SIGTERM arrives.
ENTRYPOINT ["celery", "-A", "platform"]
CMD ["worker", "--loglevel=INFO"]
