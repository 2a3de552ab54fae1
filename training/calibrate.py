"""First values for a prediction head that was never trained.

With a backbone that has no masked-LM head, such as a sentence encoder, every token of the
vocabulary is active at first: nothing is sparse, the first losses are in the hundreds, and each
step is slow. So the transform of the head starts as the identity, and its bias at a value with
which about one percent of the vocabulary is active.
"""

from __future__ import annotations

import torch
from torch import nn

from splade_es.encoders.batches import pad
from splade_es.errors import ModelError
from splade_es.models.model import SpladeModel

#: Share of the vocabulary that is active in a text after calibration.
ACTIVE_SHARE = 0.01
# Added before the GELU of the transform, which is nearly linear from about 4 on. The LayerNorm that
# follows removes what is added to all dimensions alike.
_SHIFT = 8.0


@torch.no_grad()
def calibrate(model: SpladeModel, texts: list[str]) -> None:
    """Set the untrained parts of a head, from about a hundred texts.

    A head that was trained stays as it is. Raises ModelError for one without a bias.
    """
    if not model.fresh_head:
        return
    if not model.decoder.bias.requires_grad:
        raise ModelError(
            f"{model.name}: its prediction head was never trained, and has no bias to set",
            "Start from a masked language model with a trained head.",
        )
    modules = dict(model.mlm.named_modules())
    fresh = [m for name, m in modules.items() if f"{name}.weight" in model.fresh_head]
    norms = [m for m in fresh if isinstance(m, nn.LayerNorm)]
    for module in fresh:
        if isinstance(module, nn.Linear) and module.in_features == module.out_features:
            module.weight.copy_(torch.eye(module.in_features))
            if module.bias is not None:  # ModernBERT's has none
                module.bias.fill_(_SHIFT if norms else 0.0)
    model.decoder.bias.zero_()

    model.eval()
    maxima = []
    for text in texts:
        ids = model.tokenizer(text, truncation=True, max_length=model.max_length)["input_ids"]
        hidden = model.hidden(**pad(model, [ids], model.decoder.weight.device))  # [1, L, d]
        logits = hidden[0] @ model.decoder.weight.T  # [L, V]
        maxima.append(logits.amax(dim=0))  # [V]
    top = torch.stack(maxima)  # [N, V]
    model.decoder.bias.fill_(-float(top.quantile(1 - ACTIVE_SHARE, dim=1).mean()))
