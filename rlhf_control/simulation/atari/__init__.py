"""Atari games, by the Arcade Learning Environment: prepared, stepped side by side, cloned and restored one by one."""
