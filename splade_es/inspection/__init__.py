"""Why a document matches, and what a model or an index holds."""
