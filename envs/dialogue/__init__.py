"""Dialogue, a token an action: `env` says what it is, `vector` steps many of them side by side."""
