# make demo   the whole study on the built-in cohort
# make visits six volunteers of the built-in cohort, each scanned twice: reliability between visits
# make unit-test   those of tests/unit alone, the fast ones
# make test   the tests, on two cores, without the long ones and those that need a cluster
# make test-all   the same and the long ones
# make cluster-test   those on a real Slurm, of two nodes, started on this host (Debian, root)
# make browser-test   those of the review page in Chromium
# make check  formatting and lint
# make clean  delete the results, but not the models that were trained
# make lock   renew the locked versions in envs/
# make model  train a model like the shipped one, on synthetic slices (7 hours), and pin it
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# Files of tests share nothing, so each goes to one of two processes, the slowest files first. Two threads
# of torch in each of them would wait for each other on two cores.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder
ALL_TESTS := tests/workflow tests/steps tests/unit tests/contract
SHIPPED := $(addprefix synthetic.,safetensors json curve.csv curve.png reliability.csv reliability.png)

.PHONY: setup demo visits unit-test test test-all cluster-test browser-test check format model pin-model lock \
	conda-file clean

setup: $(READY)

$(READY): envs/cpu.txt envs/torch.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement envs/cpu.txt
	$(BIN)/python -m pip install --quiet --requirement envs/torch.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/snakemake --configfile config/demo.yaml

visits: setup
	$(BIN)/snakemake --configfile config/visits.yaml

unit-test: setup
	$(PYTEST) -m "not long" tests/unit

test: setup
	$(PYTEST) -m "not long" $(ALL_TESTS)

test-all: setup
	$(PYTEST) $(ALL_TESTS)

cluster-test: setup
	$(BIN)/python -m pytest -m cluster tests/cluster

# Needs chromium, chromedriver and npm on the host.
browser-test: setup
	$(BIN)/python -m pytest tests/browser

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check workflow/Snakefile workflow/rules
	$(BIN)/snakemake --lint

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt workflow/Snakefile workflow/rules

# Also if `results` is a link, and in the folder of `make visits`.
clean:
	find -H $(wildcard results results/visits) -mindepth 1 -maxdepth 1 \
		! -name README.md ! -name models ! -name visits -exec rm -rf {} +
	rm -rf .snakemake

model: setup
	$(BIN)/snakemake pretrain_network --configfile config/synthetic_model.yaml
	$(MAKE) pin-model

# Only in the section `model`: find_levels has the hash of another network.
pin-model:
	cd results/models && cp $(SHIPPED) ../../models/
	sed -i "/^model:/,/^$$/s/^  sha256: .*/$$(grep sha256 results/models/synthetic.yaml)/" config/config.yaml

# Only uv writes the hashes for every platform. torch and its CUDA packages are left to envs/torch.txt.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet --constraint envs/torch.txt '.[test]'
	.lock/bin/python -m pip freeze \
		| grep --invert-match -E '^(paravert|torch|triton|nvidia-|cuda-)' > .lock/cpu.in
	.lock/bin/python -m pip install --quiet uv
	(head -n 1 envs/cpu.txt; .lock/bin/uv pip compile --quiet --no-deps --no-annotate --no-header \
		--generate-hashes .lock/cpu.in) > .lock/cpu.txt
	mv .lock/cpu.txt envs/cpu.txt && rm -rf .lock
	$(MAKE) conda-file

# The head of the file stays; the list of packages is that of the lock.
conda-file:
	(sed '/ pip:$$/q' envs/cpu.yaml; sed -n 's/^\([^# ]*==[^ ]*\).*/      - \1/p' envs/cpu.txt envs/torch.txt) \
		> envs/cpu.yaml.new && mv envs/cpu.yaml.new envs/cpu.yaml
