"""A page that shows how an index answers queries, and the API behind it."""
