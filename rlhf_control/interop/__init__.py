"""Policies, environments and learners of other libraries."""
