# One image for all of Runstream's services: which one runs is the command (see docker-compose.yml).
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/runstream

COPY requirements.txt .
RUN pip install --require-hashes -r requirements.txt

COPY schemas schemas
COPY feed feed
COPY rules rules
COPY producers producers
COPY sdk sdk
COPY processors processors
COPY sinks sinks
RUN pip install --no-deps --no-build-isolation --no-index ./schemas ./feed ./rules ./producers ./sdk ./processors ./sinks

RUN useradd --create-home runstream && mkdir -p /run/runstream && chown runstream /run/runstream
USER runstream
CMD ["runstream", "--help"]
