"""Fixtures of both files about Stable-Baselines3."""

from tests.interop.test_sb3_baseline import saved, trained  # noqa: F401
