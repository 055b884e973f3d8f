"""What runs outside Python: the C compiler and the threads."""
