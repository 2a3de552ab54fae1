"""Documents into an index: the conductor of a load, and what it conducts."""
