"""The learned reward: the ensemble, its fit, and what is known of it."""
