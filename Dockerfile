# The tool with its default reference inside: an audit then needs no network.
#
#   docker build -t audit .
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" audit scan dataset.parquet
#
# BASE, a build argument, may name the base image by its digest, as python:3.12-slim@sha256:... Every package is held to
# its hash in requirements.lock. PIP_EXTRA_INDEX_URL is for a lock of your own that has torch's CPU build (docs/ci.md).
ARG BASE=python:3.12-slim
FROM ${BASE} AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 SUBLIMINAL_AUDIT_CACHE=/opt/audit/models
RUN python -m venv /opt/audit/venv
ENV PATH=/opt/audit/venv/bin:$PATH
WORKDIR /source
COPY pyproject.toml requirements.lock README.md LICENSE NOTICE ./
COPY auditor auditor
COPY detectors detectors
COPY mitigations mitigations
RUN pip install --require-hashes --only-binary=:all: -r requirements.lock \
    && pip install --no-deps --no-build-isolation --no-index . \
    && audit models fetch smollm2-135m

FROM ${BASE}
COPY --from=build /opt/audit /opt/audit
ENV PATH=/opt/audit/venv/bin:$PATH SUBLIMINAL_AUDIT_CACHE=/opt/audit/models HOME=/tmp
RUN useradd --uid 1000 audit
USER 1000
WORKDIR /data
# Isolated: whatever lies in /data, or a variable says, no code comes from there.
ENTRYPOINT ["python", "-I", "-m", "auditor"]
CMD ["--help"]
