.PHONY: setup ascii-path demo test lint bench readme lock clean
.DELETE_ON_ERROR:

# The first Python of a supported version; give another with `make PYTHON=...`.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.13 found; name one with make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv .venv
	python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

DEMO_STUDY := simple_nn,simple_nn_aug,simple_nn_bn,simple_nn_bn_swish,lr_1e-0,lr_1e-1,l2_1e-2,l2_0,adam,dropout,leaky_relu,resnet20

ascii-path:
	@case "$(CURDIR)" in (*[!\ -~]*) echo "error: $(CURDIR): DVC's temporary copies need a path of ASCII characters"; exit 1;; esac

demo: ascii-path setup
	@echo "== Demo on scikit-learn's handwritten digits (8x8 pixels, scaled up): NOT CIFAR-10, about which the results say nothing =="
	@dvc exp remove --quiet demo 2>/dev/null || true
	dvc exp run --temp --name demo -S data.source=digits -S data.label=digits -S data.train_size=all -S data.val_size=200 \
	    -S 'seeds=[0,1]' -S 'study=[$(DEMO_STUDY)]' -S train.epochs=8 -S variants.resnet20.epochs=4
	@rm -rf demo && dvc get --quiet --rev demo --out demo . results
	@sed '/^### The rule/,$$d' demo/ablation.md
	@echo "These are handwritten digits, not CIFAR-10."
	@echo "Page: demo/report.html; table: demo/ablation.md; figures: demo/figures/; the experiment: dvc exp show"

test: setup
	python -m pytest -n 2 --dist worksteal

lint: setup
	ruff check .
	ruff format --check .
	mypy

# Writes docs/performance.md; `make bench BENCH="--splits FOLDER --label NAME"` measures on images elsewhere.
bench: setup
	PYTHONPATH=src python -m benchmarks.run $(BENCH)

# Writes docs/results and the README's results from the last dvc repro; `make readme RESULTS=FOLDER` from another folder.
RESULTS ?= results
readme: setup
	PYTHONPATH=src python -m ablation.publishing.readme $(RESULTS)

# Exact versions for every platform; needs uv (pip install uv).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-index-url --no-annotate --no-header \
	    pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv demo
