# make demo   the whole study on the built-in cohort
# make test   the tests, on two cores, without the long ones and those that need a cluster
# make test-all   the same, then the long ones
# make cluster-test   those on a real Slurm, of two nodes, started on this host (Debian, root)
# make check  formatting and lint
# make clean  delete the results, but not the models that were trained
# make model  train a model like the shipped one, on synthetic slices (7 hours), and pin it
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# Files of tests share nothing, so each goes to one of two processes, the slowest files first.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	tests/workflow tests/unit tests/contract
SHIPPED := $(addprefix synthetic.,safetensors json curve.csv curve.png reliability.csv reliability.png)

.PHONY: setup demo test test-all cluster-test check format model lock clean

setup: $(READY)

$(READY): envs/cpu.txt envs/torch.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement envs/cpu.txt
	$(BIN)/python -m pip install --quiet --requirement envs/torch.txt
	echo "$(CURDIR)/workflow" > "$$($(BIN)/python -c 'import site; print(site.getsitepackages()[0])')/paravert.pth"
	touch $@

demo: setup
	$(BIN)/snakemake --configfile config/demo.yaml

test: setup
	$(PYTEST) -m "not long"

test-all: test
	$(PYTEST) -m long

cluster-test: setup
	$(BIN)/python -m pytest -m cluster tests/cluster

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow/rules
	$(BIN)/snakemake --lint

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow/rules

clean:
	find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name models -exec rm -rf {} +
	rm -rf .snakemake

model: setup
	$(BIN)/snakemake pretrain_network --configfile config/synthetic_model.yaml
	cd results/models && cp $(SHIPPED) ../../models/
	sed -i "s/^  sha256: .*/$$(grep sha256 results/models/synthetic.yaml)/" config/config.yaml

# uv alone tells the hashes of every platform's files. Torch and its CUDA are left to envs/torch.txt.
lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet --requirement envs/requirements.in
	.lock/bin/python -m pip freeze | grep --invert-match -E '^(torch|triton|nvidia-|cuda-)' > .lock/cpu.in
	.lock/bin/python -m pip install --quiet uv
	(head -n 1 envs/cpu.txt; .lock/bin/uv pip compile --quiet --no-deps --no-annotate --no-header \
		--generate-hashes .lock/cpu.in) > .lock/cpu.txt
	mv .lock/cpu.txt envs/cpu.txt && rm -rf .lock
