"""What is measured, tabulated and drawn of finished runs; the only importer of matplotlib."""
