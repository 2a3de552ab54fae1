"""Limits that every engine keeps, so that what works on one works on all."""

#: Results of one search: `index.max_result_window` of both servers.
MAX_K = 10_000
#: Terms of one query. OpenSearch allows 1,024 clauses in a `bool` query
#: (`indices.query.bool.max_clause_count`); the rest is left for filters.
MAX_CLAUSES = 1_000
#: Largest stored weight. Lucene keeps 9 significant bits of a feature's weight and truncates the
#: rest, so every integer from 1 to 512 is stored exactly, and 513 is not.
MAX_WEIGHT = 512
#: Bytes of a document id in UTF-8, on both servers.
MAX_ID_BYTES = 512
