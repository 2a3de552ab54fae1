"""From a corpus to an explained hit, cell by cell.

    python tests/examples/corpus_to_hit.py [MODEL] [URL]

MODEL is a directory or a hub name. Without a URL the local engine is used, in a new directory.
"""

# %% A corpus: JSON Lines with "_id" and "text"; other fields are kept.
import json
import sys
import tempfile
from pathlib import Path

import splade_es

MODEL = sys.argv[1] if len(sys.argv) > 1 else "naver/splade-v3"
folder = Path(tempfile.mkdtemp())
url = sys.argv[2] if len(sys.argv) > 2 else f"local:{folder / 'indices'}"

TEXTS = {
    "heart": ("The heart attack is pain in the chest.", "cardiology"),
    "bone": ("Calcium and vitamin in milk for the bone.", "nutrition"),
    "eye": ("Vision loss of the eye.", "ophthalmology"),
    "sugar": ("Diabetes: blood sugar and insulin.", "nutrition"),
    "flu": ("Cough and fever in the flu. A virus.", "infections"),
}
corpus = folder / "corpus.jsonl"
with corpus.open("w") as file:
    for id, (text, topic) in TEXTS.items():
        file.write(json.dumps({"_id": id, "text": text, "topic": topic}) + "\n")

# %% What the model makes of a text: tokens with weights, and the words that caused them.
for token in splade_es.expand(TEXTS["heart"][0], MODEL)[:8]:
    print(f"{token.token:15} {token.weight:6.3f}  stored as {token.stored:3}  from {token.word!r}")

# %% Load it. The index remembers its model.
engine = splade_es.connect(url)
index = engine.index("splade-es-example")
done = index.load(corpus, MODEL, recreate=True)
print(f"{done.indexed} of {done.read} documents in {done.index}, {done.seconds:.1f} s")
print(index.stats(), index.meta().model)

# %% Search: by the model's terms, by BM25, by both, and among some documents only.
for mode in ("splade", "bm25", "hybrid"):
    hits = index.search("vitamin milk", k=3, mode=mode)
    print(mode, [(hit.id, round(hit.score, 3)) for hit in hits])
nutrition = index.search("blood", filter={"topic": "nutrition"})
print("nutrition only", [hit.id for hit in nutrition])

# %% Why the best hit is the best.
best = index.search("heart attack")[0]
why = index.explain("heart attack", best.id)
print(f"{best.id}: {why.score:.3f}, place {why.bm25_rank} by BM25")
for part in why.contributions[:5]:
    print(f"  {part.token:15} {part.score:6.3f}  {part.query_word} -> {part.document_word}")

# %% Leave nothing behind.
index.delete()
engine.close()
