"""Drive an environment by keyboard."""
