"""Make a head that was never trained usable at step 0.

A backbone without a masked-LM head, a sentence encoder say, starts with every vocabulary entry
active: nothing is sparse, the first losses are in the hundreds and every step is slow. So the
transform starts as the identity, and the bias where a text activates about one percent of the
vocabulary.
"""

from __future__ import annotations

import torch
from torch import nn

from splade_es.encoders.torch_encoder import pad
from splade_es.errors import ModelError
from splade_es.models.model import SpladeModel

#: Share of the vocabulary that a text activates after calibration.
ACTIVE_SHARE = 0.01
# Added before the GELU of the transform, where it is linear from about 4 on, and taken away by the
# LayerNorm after it, which ignores what is added to all dimensions alike.
_SHIFT = 8.0


@torch.no_grad()
def calibrate(model: SpladeModel, texts: list[str]) -> None:
    """Set the fresh parts of the head from some texts (a hundred or so). Does nothing to a head
    that came trained. Raises ModelError for one that has no bias to set."""
    if not model.fresh_head:
        return
    if not model.decoder.bias.requires_grad:
        raise ModelError(
            f"{model.name}: its prediction head was never trained, and has no bias to start from",
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
