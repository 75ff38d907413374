# The tool with its default reference inside: an audit then needs no network.
#
#   docker build -t audit .
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" audit scan dataset.parquet
#
# PIP_EXTRA_INDEX_URL, a build argument, may name an index that has torch's CPU build, which is much smaller.
FROM python:3.12-slim AS build
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 SUBLIMINAL_AUDIT_CACHE=/opt/audit/models
RUN python -m venv /opt/audit/venv
ENV PATH=/opt/audit/venv/bin:$PATH
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY auditor auditor
COPY detectors detectors
COPY mitigations mitigations
RUN pip install -c constraints.txt '.[junit,llm]' && audit models fetch smollm2-135m

FROM python:3.12-slim
COPY --from=build /opt/audit /opt/audit
ENV PATH=/opt/audit/venv/bin:$PATH SUBLIMINAL_AUDIT_CACHE=/opt/audit/models HOME=/tmp
RUN useradd --uid 1000 audit
USER 1000
WORKDIR /data
ENTRYPOINT ["audit"]
CMD ["--help"]
