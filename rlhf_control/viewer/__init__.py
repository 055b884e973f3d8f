"""The windows: voting, looking into a run, driving an environment. Nothing here, and nothing that it imports, imports
torch: a person who votes waits for no framework. Only this package imports pygame."""
