"""A 7-joint arm with a two-finger gripper on a table, and what it can be asked to do."""
