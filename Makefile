# Two commands for a newcomer: `make serve` and `make test`. Each makes its own .venv first.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
# Further extras for `make serve`, comma between: `make serve EXTRAS=openvino`.
EXTRAS ?=
comma := ,
SERVED := .venv/serve$(if $(EXTRAS),-$(subst $(comma),-,$(EXTRAS)))
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install -c constraints.txt

.PHONY: serve test lint model torture image-test clean

serve: $(SERVED)
	$(BIN)/enlarger serve --host $(HOST) --port $(PORT)

test: .venv/test
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: .venv/test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Makes one published model again, for example: make model NAME=fast-x4 DATA=~/pictures
model: .venv/test
	$(BIN)/python -m training $(if $(DATA),--data $(DATA)) train $(NAME)
	$(BIN)/python -m training $(if $(DATA),--data $(DATA)) export $(NAME)

# The ten promises with their figures; about an hour and a half on two cores, half an hour of it the soak.
torture: .venv/test
	$(BIN)/python -m benchmarks.torture $(if $(JSON),--json $(JSON))

# The CPU image built and started, on Debian as root without a container engine (buildah, debootstrap).
image-test:
	deploy/docker/image-test

clean:
	rm -rf .venv build *.egg-info

$(SERVED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .[codes$(if $(EXTRAS),$(comma)$(EXTRAS))]
	touch $@

.venv/test: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .[test,train,import,otel,openvino,jobs]
	touch $@ .venv/serve
