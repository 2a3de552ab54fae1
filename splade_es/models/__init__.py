"""SPLADE models: weights, arithmetic, and how they are saved. Uses torch."""
