"""Why a document matches a query: what each token adds, and which words caused it."""

from __future__ import annotations

from typing import NamedTuple

from splade_es.encoders.base import TextEncoder
from splade_es.errors import QueryError
from splade_es.features import token_of
from splade_es.inspection.expand import Expansion, expand, expansions
from splade_es.quantize import Quantizer
from splade_es.search.searcher import Searcher

#: Results in which a document's place by BM25 is looked for.
BM25_DEPTH = 1000


class Contribution(NamedTuple):
    """One token that query and document share.

    Attributes
    ----------
    token : str
        The token, as in the vocabulary.
    score : float
        What it adds: query_weight x stored / scale.
    query_weight : float
        As the model gives it.
    stored : int
        The integer in the index.
    query_word, document_word : str
        The word that caused it on either side; "" where that is unknown.
    start, end : int
        Characters of document_word in title and text.
    """

    token: str
    score: float
    query_weight: float
    stored: int
    query_word: str
    document_word: str
    start: int
    end: int


class Explanation(NamedTuple):
    """Why a document has its score for a query.

    Attributes
    ----------
    id : str
        Of the document.
    score : float
        The sum of the contributions.
    contributions : list of Contribution
        Tokens that query and document share, the strongest first.
    unmatched : list of Expansion
        Tokens of the query that the document lacks.
    bm25, bm25_rank : float and int, or None
        Score and place, from 1, by BM25 for the words of the query; None if the document is not
        among the first BM25_DEPTH.
    body : str
        Title and text; "" where the index has none.
    """

    id: str
    score: float
    contributions: list[Contribution]
    unmatched: list[Expansion]
    bm25: float | None
    bm25_rank: int | None
    body: str


def explain(searcher: Searcher, documents: TextEncoder, text: str, id: str) -> Explanation:
    """What makes up the score of one document for a query, whether or not it would be found.

    documents: the document side of the searcher's model. Raises QueryError if the document does not
    exist, or the query has no term.
    """
    row = searcher.encode(text, with_sources=True)
    clauses = searcher.clauses(row)
    scores = searcher.index.explain(clauses, id)
    asked = {token.token: token for token in expansions(searcher.encoder, text, row, None)}
    caused: dict[str, Expansion] = {}
    body = ""
    for document in searcher.index.documents([id]):
        body = document.body
        try:
            tokens = expand(documents, body, Quantizer(searcher.meta.scale))
        except QueryError:  # a text without any term
            tokens = []
        caused = {token.token: token for token in tokens}
    contributions, unmatched = [], []
    for feature, boost in clauses:
        query = asked[token_of(feature)]
        if added := scores.get(feature):
            stored, word, start, end = round(added / boost), "", 0, 0
            cause = caused.get(query.token)
            # otherwise the features are of another text: a backfill takes any field
            if cause and abs((cause.stored or 0) - stored) <= 1 + stored // 20:
                word, start, end = cause.word, cause.start, cause.end
            contributions.append(
                Contribution(query.token, added, query.weight, stored, query.word, word, start, end)
            )
        else:
            unmatched.append(query)
    contributions.sort(key=lambda part: (-part.score, part.token))
    (found,) = searcher.index.search_bm25([text], BM25_DEPTH)
    score, rank = next(
        ((hit.score, n) for n, hit in enumerate(found, 1) if hit.id == id), (None, None)
    )
    return Explanation(id, sum(scores.values()), contributions, unmatched, score, rank, body)
