"""Environments: made, stepped side by side, put into stored states. Never imports torch."""
