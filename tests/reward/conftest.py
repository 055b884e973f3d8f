"""Fixtures of several files."""

from tests.reward.test_model import fitted  # noqa: F401
