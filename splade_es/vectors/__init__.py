"""Corpora encoded once: into stored integers, into folders, and for other engines."""
