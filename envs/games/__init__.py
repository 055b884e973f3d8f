"""Games of our own: rules and views in C, with a NumPy reference held to it bit for bit; see `env` and `vector`."""
