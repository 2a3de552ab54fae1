"""The search engines behind one seam; the languages of the servers are spoken here only."""
