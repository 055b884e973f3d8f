"""The window to vote in."""
