"""Which clips are asked about, when, and how."""
