"""A run's folder and its life."""
