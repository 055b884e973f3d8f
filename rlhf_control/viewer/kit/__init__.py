"""What the windows are built of."""
