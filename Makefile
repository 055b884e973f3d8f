# demo, demo-arm, demo-game, demo-human, test, test-kernels, interop, test-ray, robotics, test-robotics, lint, bench,
# bench-dialogue: each sets up .venv by itself when it is missing or its requirements have changed.
PYTHON ?= python3
BIN := .venv/bin
HUMAN := runs/quickstart-human

.PHONY: demo demo-arm demo-game demo-human test test-kernels interop test-ray robotics test-robotics lint bench
.PHONY: bench-dialogue clean

demo: .venv/installed
	@RLHF_CONTROL_PROGRESS=5 $(BIN)/python experiments/quickstart.py

# An arm that holds a block at its goal learns from 100 comparisons to lift it higher; a minute.
demo-arm: .venv/installed
	@RLHF_CONTROL_PROGRESS=5 $(BIN)/python experiments/quickstart_arm.py

# A player of one of our own games learns a style from 200 comparisons; about a minute.
demo-game: .venv/installed
	@RLHF_CONTROL_PROGRESS=5 $(BIN)/python experiments/quickgame.py

# The same task as the first demo's, and you are asked. Stopped half-way, it goes on where it was when it is started again.
demo-human: .venv/installed
	@if [ -e $(HUMAN)/config.json ]; then $(BIN)/rlhf-control resume $(HUMAN); else \
		$(BIN)/rlhf-control finetune halfcheetah --oracle human --score backward --labels 100 --shrink 0.1 \
			--reference.policy round --reference.beta 0.02 --out $(HUMAN); fi

test: .venv/installed
	$(BIN)/python -m pytest -n 2 -q

# The numeric tests again with other kernels of BLAS, torch and our own C; half an hour.
test-kernels: .venv/installed
	$(BIN)/python tests/kernels.py

# tests/peers, against other people's libraries in an environment of their own (2 GB); a minute or two.
interop: .venv-interop/installed
	.venv-interop/bin/python -m pytest -q -n 0 -W default tests/peers

# Sweeps on a real Ray and searches by Optuna, in an environment of their own: workers, nodes and drivers are killed.
# A few minutes.
test-ray: .venv-ray/installed
	.venv-ray/bin/python -m pytest -q -n 0 -W default tests/sweeps/test_on_ray.py tests/sweeps/test_tune.py

# Gymnasium-Robotics and MetaWorld, into .venv: MuJoCo and NumPy stay as they are.
robotics: .venv/robotics

# Their environments, trained, resumed after a kill, fine-tuned and drawn, in an environment of their own, which has
# other people's robots and games too; a quarter of an hour.
test-robotics: .venv-robotics/installed
	.venv-robotics/bin/python -m pytest -q -n 2 -W default tests/robotics

# PPO on tokens beside the same around Hugging Face's GPT-2, in an environment of its own; two minutes
bench-dialogue: .venv/installed .venv-dialogue/installed
	$(BIN)/rlhf-control bench dialogue --dialogue-python .venv-dialogue/bin/python \
		--out experiments/results/bench_dialogue.json

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/rlhf-control bench ppo --million 5 --out experiments/results/bench_ppo.json
	$(BIN)/python experiments/bench_envs.py

clean:
	rm -rf .venv .venv-interop .venv-ray .venv-robotics .venv-dialogue build *.egg-info

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@echo "setting up .venv; once, a few minutes"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev]"
	@touch $@

.venv-interop/installed: tests/peers/requirements.txt setup.cfg
	@echo "setting up .venv-interop; once, a few minutes"
	@$(PYTHON) -m venv .venv-interop
	@.venv-interop/bin/python -m pip install --disable-pip-version-check -q -r tests/peers/requirements.txt -e .
	@touch $@

.venv-ray/installed: setup.cfg constraints.txt
	@echo "setting up .venv-ray; once, a few minutes"
	@$(PYTHON) -m venv .venv-ray
	@.venv-ray/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[dev,ray,tune]"
	@touch $@

.venv/robotics: .venv/installed
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[robotics]"
	@touch $@

.venv-robotics/installed: tests/robotics/requirements.txt tests/robotics/without_dependencies.txt setup.cfg constraints.txt
	@echo "setting up .venv-robotics; once, a few minutes"
	@$(PYTHON) -m venv .venv-robotics
	@.venv-robotics/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt \
		-r tests/robotics/requirements.txt -e ".[dev,robotics]"
	@.venv-robotics/bin/python -m pip install --disable-pip-version-check -q --no-deps \
		-r tests/robotics/without_dependencies.txt
	@touch $@

.venv-dialogue/installed: setup.cfg constraints.txt
	@echo "setting up .venv-dialogue; once, a few minutes"
	@$(PYTHON) -m venv .venv-dialogue
	@.venv-dialogue/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt torch numpy "transformers>=5"
	@touch $@
