"""Queries in, hits out; runs in, measures out."""
