"""Names of the fields that splade-es adds to a document. `mappings/README.md` describes them."""

#: Every name begins with this, and a corpus may use no field whose name does. Fields of an index
#: that others made may: what is ours there has one of the names below.
PREFIX = "splade"
#: Feature name -> stored integer: the sparse vector. A backfill may give it another name.
FIELD = "splade"
#: The document id as a doc value.
ID_FIELD = "splade_id"
#: The strongest tokens, and the strongest that are not in the text.
TOP_FIELD = "splade_top"
NEW_FIELD = "splade_new"
#: The vector as text: "cardiac:214 heart:180".
VIEW_FIELD = "splade_view"
#: Number of features, and the largest stored integer.
COUNT_FIELD = "splade_n"
MAX_FIELD = "splade_max"
#: The model that encoded the document, and when.
MODEL_FIELD = "splade_model"
TIME_FIELD = "splade_at"
#: Hash of the content and of the settings of encoding: unchanged documents are not encoded again.
HASH_FIELD = "splade_hash"
#: The further fields of the document as index terms, see `splade_es.filter_terms`.
FIELDS_FIELD = "splade_fields"
#: All but the vector.
COMPANIONS = (
    ID_FIELD, TOP_FIELD, NEW_FIELD, VIEW_FIELD, COUNT_FIELD, MAX_FIELD, MODEL_FIELD, TIME_FIELD,
    HASH_FIELD, FIELDS_FIELD,
)  # fmt: skip
