"""Fixtures of several files."""

from tests.analysis.test_reward_evaluation import clips, run_of  # noqa: F401
