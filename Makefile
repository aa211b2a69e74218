# Everything a developer does, each in one word. Needs only Python 3.11 or newer, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests, torture and bench start many processes, which need bytecode files, or each would compile the app anew.
PYTHON_CACHED := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python
# The version of uv is the lock file's own.
UV := $(shell sed -n '/^name = "uv"$$/{n;s/version = "\(.*\)"/uv==\1/p;}' uv.lock)
# `make run` and `make test` may start at once: only one of them installs.
LOCKED := $(if $(shell command -v flock),flock .setup.lock)

# Tests, torture and bench on an installed server in place of the wheels': POSTGRES=15 for Debian's, for example.
ifdef POSTGRES
export CRM_POSTGRES_BIN := /usr/lib/postgresql/$(POSTGRES)/bin
endif

.PHONY: setup run install test test-database test-besides coverage torture drill schemathesis walk small-model cluster image nightly check check-types check-typescript check-style check-deploy check-openapi \
	check-schema audit sbom bench docs format clean

setup:
	@$(LOCKED) $(MAKE) --no-print-directory --silent $(VENV)/installed

# What most processes import is compiled here, once. Of all packages that is a tenth.
$(VENV)/installed: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: on Debian and Ubuntu, apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check "$(UV)"
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --locked --all-extras --python $(BIN)/python
	@$(PYTHON_CACHED) -c "import app.main, tests.conftest"
	@touch $@

run: setup
	@$(BIN)/crm serve --demo

# For a machine without containers, as root: see docs/installing.md. Each release has a folder of its own, so that one that
# runs is not changed, and PREFIX is a link to the newest.
PREFIX ?= /opt/crm
RELEASE = $(PREFIX)-$(shell git describe --tags --always)
EXTRAS := assistant broker identity mcp redis tracing xlsx
install:
	@test -x .uv/bin/pip || $(PYTHON) -m venv .uv
	@.uv/bin/pip install --quiet --disable-pip-version-check "$(UV)"
	@UV_PROJECT_ENVIRONMENT=$(RELEASE) UV_PYTHON_DOWNLOADS=never .uv/bin/uv sync --quiet --locked --no-dev --no-editable \
		--compile-bytecode --python "$$(command -v $(PYTHON))" $(EXTRAS:%=--extra %)
	@ln -sfnT $(RELEASE) $(PREFIX)
	@install -D --mode=755 deploy/systemd/crm /usr/local/bin/crm
	@install -D --mode=644 --target-directory=/etc/systemd/system deploy/systemd/*.service deploy/systemd/*.timer
	@echo "$(RELEASE) is installed"

# TESTS names some of them, such as TESTS="tests/db tests/laws"; SLOW=no leaves out those that take long, SLOW=only the others.
PROCESSES ?= auto
PYTEST = $(PYTHON_CACHED) -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder --max-worker-restart=0
test: setup
	@$(PYTEST) $(if $(SLOW),-m $(if $(filter no,$(SLOW)),"not slow",slow)) $(TESTS)

# How much of the app the tests run; what only starts processes that are not measured is left out.
coverage: setup
	@$(PYTEST) --cov --cov-report=term \
		--ignore=tests/bench --ignore=tests/torture --ignore=tests/laws/test_schemathesis.py

# The tests that another server can change: make test-database POSTGRES=15.
OF_DATABASE := tests/admin tests/db tests/records tests/bench/test_plans.py \
	$(addprefix tests/laws/test_,lists.py own_scope.py references.py rights.py tables.py trash.py)
test-database: TESTS = $(OF_DATABASE)
test-database: test

# On a machine that runs test-database, too: all the others.
test-besides: TESTS = $(addprefix --ignore=,$(OF_DATABASE))
test-besides: test

# Every promise against real processes that are killed, paused and starved: some twenty minutes, or TORTURE=--quick.
torture: setup
	@$(PYTHON_CACHED) -m tests.torture $(TORTURE)

# Back-up and restore, as docs/operations.md has them, on servers of its own. POSTGRES=15 for Debian's.
drill: setup
	@CRM_DRILL=1 $(BIN)/pytest -q -rA --durations=0 tests/deploy/test_backup.py

# The served documents, with each value that a list's filters may and may not have, too.
schemathesis: setup
	@CRM_SCHEMATHESIS_NIGHTLY=1 $(BIN)/pytest -q tests/laws/test_schemathesis.py

# Long random walks: of writes, taken back step by step, and on both sides of a connected calendar.
walk: setup
	@CRM_WALK_STEPS=2000 $(BIN)/pytest -q tests/laws/test_dry_run_and_undo.py -k random_walk
	@CRM_CALENDAR_STEPS=1000 $(BIN)/pytest -q -rP tests/admin/test_calendar_walk.py tests/admin/test_calendar_walk_services.py

# The assistant with a real llama.cpp and a real, very small model, which this installs (130 MB).
small-model: setup
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --locked --inexact --all-extras --group small-model --python $(BIN)/python
	@$(BIN)/pytest -q tests/small_model

# The manifests of deploy/kubernetes, as a real API server takes them. It is built the first time, from Go's modules: ten
# minutes of a processor, and 4 GB of Go's caches.
API_SERVER := .crm/cluster
cluster: setup
ifeq (,$(shell command -v go))
	@echo "SKIPPED: no API server took the manifests, because go is not installed here" >&2
else
	@mkdir -p $(API_SERVER)
	@cd tests/deploy/cluster && CGO_ENABLED=0 nice go build -trimpath -o $(CURDIR)/$(API_SERVER)/ tool
	@CRM_CLUSTER=$(CURDIR)/$(API_SERVER) $(BIN)/pytest -q tests/deploy/test_cluster.py
endif

# The image by the Dockerfile as it stands, without an engine: with Debian's buildah and debootstrap, as root.
image:
	@tests/deploy/build_image.sh

# What takes too long for each change; `make -k nightly` goes on after a failure.
nightly: coverage torture bench schemathesis walk small-model cluster image

# The checks need nothing of each other, so they run side by side; the longest begins first.
check: setup
	@$(MAKE) --no-print-directory -j4 check-types check-schema check-openapi check-typescript check-deploy check-style audit

# CI's machines are new each time: to write a cache would only take time.
check-types:
	@$(BIN)/mypy $(if $(CI),--cache-dir=/dev/null)

# openapi/crm.d.ts is what the document says, and the example fits it.
check-typescript:
ifeq (,$(shell command -v npm))
	@echo "SKIPPED: openapi/crm.d.ts and openapi/example.ts were not checked, because npm is not installed here" >&2$(if $(CI),; exit 1)
else
	@cd openapi && { test node_modules/.package-lock.json -nt package-lock.json || npm ci --silent --no-audit --no-fund; }
	@cd openapi && npm run --silent check >/dev/null || \
		{ echo "openapi/crm.d.ts is stale, or openapi/example.ts is wrong: cd openapi, npm run generate, npm run check" >&2; exit 1; }
endif

check-style:
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

check-deploy:
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.renovate renovate.json
ifeq (,$(shell command -v kubectl))
	@echo "SKIPPED: deploy/kubernetes was not checked, because kubectl is not installed here" >&2$(if $(CI),; exit 1)
else
	@set -e; made=$$(mktemp); trap 'rm $$made' EXIT; for overlay in deploy/kubernetes/overlays/*; do \
		kubectl kustomize $$overlay >$$made; \
		$(BIN)/kubernetes-validate --strict --quiet --no-warn $$made; \
	done
endif

check-openapi:
	@$(BIN)/crm openapi --check

check-schema:
	@$(BIN)/crm db schema --check --data-dir .crm/check

# A known vulnerability fails. Without network the audit is skipped, with a message.
audit: setup
	@said=$$($(BIN)/uv audit --locked --preview-features audit-command $(AUDIT_FLAGS) 2>&1); \
	case $$? in \
	0) ;; \
	1) echo "$$said" >&2; exit 1 ;; \
	*) echo "SKIPPED: the lock file was not audited for known vulnerabilities ($$(echo "$$said" | tail -n 1))" >&2 ;; \
	esac

# What a production installation consists of, in CycloneDX's format.
sbom: setup
	@$(BIN)/uv export --quiet --locked --no-dev --no-emit-project $(EXTRAS:%=--extra %) --format cyclonedx1.5 \
		--preview-features sbom-export

# Fills a database of a million customers the first time, which takes some minutes; QUICK=1 for small data. ONLY=exports
# measures that part alone, or duplicates, imports or listeners. BASE=<commit> serves that commit beside this one, in turns,
# and prints what a request takes of the processors now, as a share of what it took then.
bench: setup
	@$(PYTHON_CACHED) -m tests.bench $(if $(QUICK),--quick) $(addprefix --only ,$(ONLY)) $(addprefix --base ,$(BASE))

# The generated parts of docs/ and .env.example; a test fails while they are stale.
docs: setup
	@$(BIN)/python -m tests.pages

format: setup
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean:
	rm -rf $(VENV) .uv .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
