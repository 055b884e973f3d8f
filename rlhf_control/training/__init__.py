"""What `train.py` joins, before and beside the loop."""
