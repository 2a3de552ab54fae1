"""Training of SPLADE models: from pairs, triples and scores of teachers to a model directory."""
