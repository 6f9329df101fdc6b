# sasrecllm on a CPU: the server, and every other verb.  docs/operations.md says how it is used.
FROM python:3.11-slim AS build
# Where pip finds packages, if not where it looks by itself; a CPU build of torch, say:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=... .
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN python3 -m venv /opt/sasrecllm
RUN /opt/sasrecllm/bin/python -m pip install -q -c constraints.txt '.[serve,postgres]'
# Fails where torch came with gigabytes for a GPU that a container like this does not see.
RUN /opt/sasrecllm/bin/sasrecllm doctor --guard

FROM python:3.11-slim
COPY --from=build /opt/sasrecllm /opt/sasrecllm
COPY configs /opt/sasrecllm/configs
# Runs and their stores; all that is written, but for /tmp.
RUN install -d -o 10001 -g 10001 /models
# The user has no name in the image: LOGNAME is what libraries take for it.
ENV PATH=/opt/sasrecllm/bin:$PATH HOME=/tmp LOGNAME=sasrecllm PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /models
VOLUME /models
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=10s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import sasrecllm; sasrecllm.Client('http://127.0.0.1:8000').call('GET', '/readyz')"]
ENTRYPOINT ["sasrecllm"]
CMD ["serve", "/models/current", "--host", "0.0.0.0", "--log-requests"]
