"""Gymnasium's MuJoCo v5 tasks, many at a time."""
