"""The window that looks into a run's questions."""
