# An image whose entrypoint is tinyinit:
#
#     docker build --tag tinyinit . && docker run --rm tinyinit COMMAND
#
# BASE is any image with Debian's apt, python3 and pip: the official Python images, Debian with its own Python, or
# an application's image that is to get an init. For a Dockerfile of your own copy both stages.
ARG BASE=python:3.13-slim

# The launcher and python-prctl are C. What compiles them stays in this stage, only the wheels leave it.
FROM ${BASE} AS wheels
# Debian's Python has its headers in a package of its own; the official images have python3-config, and them.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev libcap-dev \
    $(command -v python3-config > /dev/null || echo python3-dev)
COPY . /source
RUN python3 -m pip wheel --no-cache-dir --wheel-dir /wheels /source

FROM ${BASE}
COPY --from=wheels /wheels /wheels
# Debian's pip wants to be told that the system is meant (PEP 668). It is a variable, because a pip from before
# that refuses the flag. The import fails here, and not in PID 1, if BASE lacks libcap.so.2.
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --no-index /wheels/*.whl \
 && rm -r /wheels \
 && python3 -I -c 'import _prctl'
ENTRYPOINT ["tinyinit", "--"]
