"""From texts to sparse rows, by the best means that a model and a machine offer."""
