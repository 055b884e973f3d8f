"""What steps the environments, behind one protocol."""
