"""What an oracle can prefer, and how success at it is measured."""
