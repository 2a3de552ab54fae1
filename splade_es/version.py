"""The version of splade-es: a module of its own, because the face above imports every floor."""

__version__ = "0.1.0"
