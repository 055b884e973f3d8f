"""Queries and their answers: the store, the oracles, agreement, exchange with other programs. Never imports torch."""
