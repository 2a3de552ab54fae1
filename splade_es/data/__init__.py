"""Files that people have: documents, queries, judgements and runs, and how files are written."""
