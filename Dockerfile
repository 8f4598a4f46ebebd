# SPDX-License-Identifier: MIT (webapp/LICENSE)
#
# The web app's image. Builds unchanged with docker, podman and buildah:
#
#   docker build -t kubernetes-django .
#
# The role `image` builds it with a tag from its content, and from Debian's Python where no registry answers.
ARG PYTHON_IMAGE=docker.io/library/python:3.13.12-slim-trixie

FROM ${PYTHON_IMAGE} AS build
# pip lives beside the environment it fills, so that it does not come along.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
COPY webapp/requirements.txt /tmp/
# Both secrets are optional and leave no trace in the image: the operator's pip settings (a mirror), and the
# certificates to trust (a company network that replaces them).
# Django's translations are used compiled; their sources are 20 MB. Python's compiled modules must hold without time
# stamps, which builds reset: with a read-only root a mismatch means compiling at every start.
RUN --mount=type=secret,id=pip.conf,target=/run/secrets/pip.conf,required=false \
    --mount=type=secret,id=ca.pem,target=/run/secrets/ca.pem,required=false \
    if [ -s /run/secrets/pip.conf ]; then export PIP_CONFIG_FILE=/run/secrets/pip.conf; fi; \
    if [ -s /run/secrets/ca.pem ]; then export PIP_CERT=/run/secrets/ca.pem; fi; \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-compile --require-hashes --only-binary=:all: -r /tmp/requirements.txt \
    && find /opt/venv -name '*.po' -delete \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv
COPY webapp /app
WORKDIR /app
RUN DJANGO_BUILD=true /opt/venv/bin/python -B manage.py collectstatic --noinput \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /app \
    && chmod -R u=rwX,go=rX /opt/venv /app
# What the image consists of, for who has to know what a hole concerns.
COPY roles/image/files/bases/sbom.py /tmp/
ARG VERSION=
RUN mkdir -p /sbom && python3 /tmp/sbom.py kubernetes-django "${VERSION:-unknown}" /var/lib/dpkg/status /opt/venv/lib/python3*/site-packages \
        > /sbom/kubernetes-django.cdx.json

FROM ${PYTHON_IMAGE}
# The base's pip, and the one that it makes environments with.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip /usr/local/lib/python3*/site-packages/pip-* \
        /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=build /sbom /usr/share/sbom
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
ARG VERSION=
ARG REVISION=
ENV RELEASE=${VERSION} \
    REVISION=${REVISION}
LABEL org.opencontainers.image.title="kubernetes-django" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A number, or Kubernetes could not tell that it is not root. Any other works as well.
USER 10001:10001
EXPOSE 8000
CMD ["gunicorn", "--config", "gunicorn.conf.py", "kubernetes_django.wsgi"]
