# What every node of a cluster runs: the packages of requirements.lock, distmer, and what Ray's cluster launcher and KubeRay
# expect of an image (rsync, ssh, wget, bash, a home). Pinned by tag; pin it by digest where you build
# (docker buildx imagetools inspect python:3.11.13-slim-bookworm), none could be looked up where this was written.
#
#     docker build --platform linux/amd64 -t distmer:0.1.0-ray2.60.0 .
#
# The 68-landmark model in it is for research only (NOTICE): push it to a private registry.
FROM python:3.11.13-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates openssh-client rsync wget \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --shell /bin/bash ray

# The lock alone first, so that a change of code does not install the packages again. On Linux torch==2.13.0 of PyPI is the build
# for CUDA; its nvidia-* packages are pinned by torch itself, and the driver is the node's.
COPY requirements.lock /opt/distmer/
RUN pip install --no-cache-dir --disable-pip-version-check -r /opt/distmer/requirements.lock
# What the autoscaler on the head needs to start nodes; for GCP: --build-arg CLOUD=google-api-python-client==2.202.0
ARG CLOUD=boto3==1.44.5
RUN pip install --no-cache-dir --disable-pip-version-check -c /opt/distmer/requirements.lock "$CLOUD"

COPY pyproject.toml README.md LICENSE NOTICE /opt/distmer/
COPY distmer /opt/distmer/distmer
RUN pip install --no-cache-dir --disable-pip-version-check --no-deps /opt/distmer && distmer --version && ray --version
COPY jobs /opt/distmer/jobs
COPY configs /opt/distmer/configs

# Without a token a node of this image refuses to start, and does not listen unguarded.
ENV HOME=/home/ray RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
USER ray
WORKDIR /home/ray
CMD ["bash"]
