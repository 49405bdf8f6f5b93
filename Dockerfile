# One image: client, scheduler and worker.
#
#   docker build -t dask-claim:0.1.0 .
#
# The base is any Debian with Python 3.11 or newer and its venv module.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS tools
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/dask-claim

# What the project needs: a layer that changes with pyproject.toml alone.
FROM tools AS needed
# Client, scheduler and workers must be of one version: these, in this image and in those built on
# it (pip install -c /opt/dask-claim/constraints.txt …).
ARG PINNED="dask==2026.8.0 distributed==2026.8.0 dask-gateway==2026.3.0"
ARG EXTRAS="bai dashboard"
WORKDIR /build
COPY pyproject.toml .
RUN python3 -c 'import sys, tomllib; \
p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = p["optional-dependencies"]; \
print(*p["dependencies"], *(need for name in sys.argv[1:] for need in extras[name]), sep="\n")' \
        ${EXTRAS} > needed.txt \
    && printf '%s\n' ${PINNED} > pinned.txt \
    && /opt/tools/bin/pip --python /opt/dask-claim/bin/python install --no-cache-dir --no-compile \
        -r needed.txt -c pinned.txt \
    && /opt/tools/bin/pip --python /opt/dask-claim/bin/python freeze \
        > /opt/dask-claim/constraints.txt \
    # The libraries' own tests are a tenth of the image.
    && find /opt/dask-claim/lib -depth -type d -name tests -path '*/site-packages/*' \
        -exec rm -r {} + \
    # From distributed 2026.6 on these are gone, and Dask Gateway calls them by default.
    && for part in scheduler worker; do \
        [ -e "/opt/dask-claim/bin/dask-$part" ] || { \
            printf '#!/bin/sh\nexec dask %s "$@"\n' "$part" > "/opt/dask-claim/bin/dask-$part" \
            && chmod 755 "/opt/dask-claim/bin/dask-$part"; }; \
    done \
    # Bytecode now, since nothing writes it later; never compared with the sources' times.
    && /opt/dask-claim/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        /opt/dask-claim/lib

# The project itself, apart from what it needs.
FROM needed AS project
COPY . .
RUN /opt/tools/bin/pip --python /opt/dask-claim/bin/python install --no-cache-dir --no-compile \
        --no-deps --root /project . \
    # The wheel leaves it out.
    && cp -r bai_example /project/opt/dask-claim/lib/python3*/site-packages/ \
    && /opt/dask-claim/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        /project/opt/dask-claim/lib -s /project

FROM ${BASE_IMAGE}
# rasterio's wheel wants libexpat from the system.
#
# Runners start a tool as `/bin/sh -c "dask-claim … > out"`, so that the shell is the container's
# first process. Debian's dash stays it, and since the kernel gives a first process no default for
# SIGTERM, the signal is lost: the container ends by SIGKILL, and its cluster only by its lease.
# busybox's shell becomes the command, also with a redirection (bash does so only without one).
RUN apt-get update \
    && apt-get install -y --no-install-recommends busybox \
        $(ldconfig -p | grep -q libexpat.so.1 || echo libexpat1) \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && ln -sf "$(command -v busybox)" /bin/sh
# Some Python images come without bytecode.
# Some of its files are no Python of this version; those do not count.
RUN python3 -m compileall -q -j 0 "$(python3 -c 'import os; print(os.path.dirname(os.__file__))')" \
        >/dev/null || true
RUN echo 'dask:x:1000:1000::/tmp:/bin/sh' >> /etc/passwd && echo 'dask:x:1000:' >> /etc/group
COPY --from=needed /opt/dask-claim /opt/dask-claim
COPY --from=project /project/opt/dask-claim /opt/dask-claim
# HOME, for whoever runs it without a runner that sets one: writable for any uid.
ENV PATH=/opt/dask-claim/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
USER 1000:1000
WORKDIR /tmp
CMD ["dask-claim", "--help"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="dask-claim" \
      org.opencontainers.image.description="Claims a Dask cluster for one command; also its scheduler and workers" \
      org.opencontainers.image.authors="The dask-claim developers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
