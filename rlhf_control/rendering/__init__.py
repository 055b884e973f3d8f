"""From a segment to its pictures. Never imports torch."""
