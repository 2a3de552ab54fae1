"""splade-es: learned sparse retrieval on Elasticsearch and OpenSearch."""

__version__ = "0.1.0"
