"""How fast, beside the peers."""
