# syntax=docker/dockerfile:1
# The service, and nothing that only a developer needs: no compiler, no app/dev, no embedded database, no /docs.
# A test replays these steps in an empty directory.

FROM python:3.13.18-slim-trixie AS build
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PROJECT_ENVIRONMENT=/opt/crm
WORKDIR /src
COPY pyproject.toml uv.lock ./
# The same version of uv as in the lock file.
RUN pip install --no-cache-dir --disable-pip-version-check "$(sed -n '/^name = "uv"$/{n;s/version = "\(.*\)"/uv==\1/p;}' uv.lock)"
# Dependencies have a layer of their own, so that a change of the code does not install them again.
RUN uv sync --python "$(command -v python)" --locked --no-dev --extra assistant --extra broker --extra identity --extra mcp --extra redis --extra tracing --extra xlsx --no-install-project
COPY README.md ./
COPY app ./app
COPY migrations ./migrations
RUN uv sync --python "$(command -v python)" --locked --no-dev --extra assistant --extra broker --extra identity --extra mcp --extra redis --extra tracing --extra xlsx --no-editable
# Of the rules of 1,000 languages, those of app/locales.py.
RUN find /opt/crm -path '*/babel/locale-data/*.dat' ! -name root.dat ! -name en.dat ! -name en_001.dat ! -name en_GB.dat ! -name de.dat ! -name ar.dat -delete

FROM python:3.13.18-slim-trixie
LABEL org.opencontainers.image.title="crm-service" \
      org.opencontainers.image.description="A headless, multi-tenant CRM backend on PostgreSQL"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin crm
COPY --from=build /opt/crm /opt/crm
# It writes to /tmp only: with a tmpfs there, the root file system can be read-only.
ENV PATH=/opt/crm/bin:$PATH PYTHONUNBUFFERED=1 ENVIRONMENT=production
USER 10001
EXPOSE 3000
# Whether the process answers. Load balancers ask /ready whether requests may be sent to it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + (os.getenv('SERVER_PORT') or os.getenv('PORT') or '3000') + '/live', timeout=2)"]
# Exec form, so that SIGTERM reaches the service; it stops within DRAIN_SECONDS and 25 seconds.
STOPSIGNAL SIGTERM
CMD ["crm", "serve", "--host", "0.0.0.0"]
