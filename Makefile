# demo, test, lint, bench: each sets up .venv by itself when it is missing or its requirements have changed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench clean

demo: .venv/installed
	@RLHF_CONTROL_PROGRESS=5 $(BIN)/python experiments/quickstart.py

test: .venv/installed
	$(BIN)/python -m pytest -n 2 -q

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/rlhf-control bench ppo --million 5 --out experiments/results/bench_ppo.json
	$(BIN)/python experiments/bench_envs.py

clean:
	rm -rf .venv build *.egg-info

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@echo "setting up .venv; once, a few minutes"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	@touch $@
