"""What the window and the terminal have in common: a voting session over a run's store. Never imports torch."""
