"""Encoding in torch: texts in, sparse rows out, in bounded memory and in input order.

A window of texts is tokenised and sorted by length, so that a batch has texts of similar length and
little padding. Batches are filled up to a number of tokens, not of texts. The non-zero entries are
selected on the device, and only they are copied from it.

A GPU must not wait. While it computes a batch, the next window is tokenised in a thread, the rows
of the batch before are fetched, and rows of the window before are handed out, about as many as the
batch has: what the caller does with them, it does while the GPU computes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, cast

import torch

from splade_es.arguments import checked
from splade_es.encoders.base import Precision, TextEncoder
from splade_es.encoders.batches import BatchTokenizer, TokenizedTexts, Window, windows
from splade_es.encoders.compute import Batch, Computer
from splade_es.encoders.devices import compute_dtype, named_device, pick_device
from splade_es.errors import ModelError
from splade_es.models import int8
from splade_es.models.model import SpladeModel, to_bfloat16
from splade_es.records import SparseRow

# A window is several batches of the longest texts, so that sorting it by length has an effect.
_WINDOW_BATCHES = 8
_CPU_BATCH_TOKENS = 2048
_GPU_BATCH_TOKENS = 65536


class Encoder(TextEncoder):
    """A SPLADE model ready to encode. `Encoder.load` makes one. Several threads may use it.

    Parameters
    ----------
    model : SpladeModel
        The model. It is moved to the device, and there changed by int8 and by bf16, in place.
    device : str or torch.device, optional
        By default CUDA if there is a GPU, otherwise Apple's GPU, otherwise the CPU.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}
        Number format of the products. auto is bf16 where the hardware multiplies it faster than
        float32, otherwise fp32. int8, for x86 CPUs, uses 8 bits inside the encoder, which is faster
        and not exact; the head stays in float32.

    Attributes
    ----------
    name : str
        Absolute directory, or hub name.
    vocabulary : list of str
        The token of each vocabulary id, [V]. Special tokens are in it, but never in a row.
    max_length : int
        Tokens of a text, special tokens included; a longer text is cut.
    pooling : {"max", "sum"}
        Over the tokens of a text.
    model : SpladeModel
        The model, on `device`.
    dtype : torch.dtype
        Of the products.
    device, precision
        As above.

    Raises
    ------
    ModelError
        There are no int8 products on this device.
    SettingsError
        The device does not exist, or the precision is unknown.

    Notes
    -----
    The weight of vocabulary entry v is log1p(relu(max over tokens l of h_l . W_v + b_v)) with max
    pooling (SPLADE v2, https://arxiv.org/abs/2109.10086), and with sum pooling the sum over the
    tokens of log1p(relu(...)) (SPLADE, https://arxiv.org/abs/2107.05720). Models trained with a
    double logarithm (https://arxiv.org/abs/2504.14839) apply log1p once more.
    """

    @checked
    def __init__(
        self,
        model: SpladeModel,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
    ) -> None:
        self.device = pick_device() if device is None else named_device(device)
        self.dtype = dtype = compute_dtype(precision, self.device)
        self.model = model.to(self.device).eval()
        if self.device.type == "cuda" and dtype == torch.bfloat16:
            to_bfloat16(model)
        if precision == "int8":
            if self.device.type != "cpu" or not int8.available():
                raise ModelError(
                    f"There are no 8-bit products for {self.device.type} on this machine",
                    "Leave the precision to splade-es, or use an x86 CPU.",
                )
            int8.quantize_linear(model.mlm.base_model)
        self._computer = Computer(self.model, self.device, dtype)
        self._tokenize = BatchTokenizer(model, model.max_length)
        self._span_lock = threading.Lock()  # truncation is a state that threads would share
        self.name = model.name
        self.max_length = model.max_length
        self.pooling = model.pooling
        self.precision = precision
        self.vocabulary = model.vocabulary

    @classmethod
    @checked
    def load(
        cls,
        name: str | os.PathLike[str],
        max_length: int | None = None,
        side: Literal["document", "query"] = "document",
        device: str | torch.device | None = None,
        precision: Precision = "auto",
    ) -> Encoder:
        """Load a trained SPLADE model.

        Parameters
        ----------
        name : str or path
            Directory or hub name.
        max_length : int, optional
            Tokens of a text, from 3 to the number of positions of the model. By default what the
            tokenizer says if that is below 512, otherwise 256.
        side : {"document", "query"}
            Which encoder, where a model has two.
        device, precision
            See `Encoder`.

        Returns
        -------
        Encoder
            On the device.

        Raises
        ------
        ModelError
            The model does not exist, is not a masked language model, or its masked-LM head was
            never trained; or there are no int8 products on this device.
        SettingsError
            The device does not exist, or the side or the precision is unknown.
        """
        model = SpladeModel.load(name, max_length, side)
        name = model.name
        if model.fresh_head:
            raise ModelError(
                f"{name}: this is an encoder without a trained masked-LM head, not a SPLADE model",
                "Train it first: splade-es train.",
            )
        # a directory must also be found from another working directory
        model.name = os.path.abspath(name) if os.path.isdir(name) else name
        encoder = cls(model, device, precision)
        encoder.side = side
        return encoder

    @checked
    def encode(
        self,
        texts: Iterable[str],
        *,
        with_sources: bool = False,
        batch_tokens: int | None = None,
    ) -> Iterator[SparseRow]:
        """Encode texts, in order.

        Parameters
        ----------
        texts : iterable of str
            May be endless: they are read as rows are taken, some batches ahead.
        with_sources : bool
            Also tell which input token has the largest logit for each weight, see `SparseRow`.
        batch_tokens : int, optional
            Tokens of a batch, padding included; by default 2,048 on a CPU and 65,536 on a GPU.

        Yields
        ------
        SparseRow
            One for each text: ids int32 [n], weights float32 [n] > 0. A text without any token of
            its own gives an empty row.

        Raises
        ------
        TypeError, ModelError
            See `TextEncoder.encode`.
        """
        budget = batch_tokens or (
            _CPU_BATCH_TOKENS if self.device.type == "cpu" else _GPU_BATCH_TOKENS
        )
        computer = self._computer
        stream = torch.cuda.Stream(self.device, -1) if self.device.type == "cuda" else None
        unfinished: deque[Window] = deque()
        running: tuple[Window, list[int], Batch] | None = None
        ready: deque[SparseRow] = deque()

        def finish() -> None:
            if running:
                window, texts, batch = running
                window.put(texts, computer.rows(batch, stream))
            while unfinished and unfinished[0].missing == 0:
                ready.extend(unfinished.popleft().rows)

        for window in self._windows(texts, budget):
            unfinished.append(window)
            while some := window.take(int(computer.share * budget)):
                batch = computer.start([window.tokens.ids(i) for i in some], with_sources)
                finish()
                running = window, some, batch
                for _ in range(min(len(ready), len(some))):
                    yield ready.popleft()
        finish()
        yield from ready

    def _windows(self, texts: Iterable[str], budget: int) -> Iterator[Window]:
        """Yield the texts, tokenised in a thread, one window ahead."""
        batch = max(1, budget // self.max_length)
        size = _WINDOW_BATCHES * batch
        first = size if self.device.type == "cpu" else batch  # a GPU waits for the first one
        waiting: deque[Future[TokenizedTexts]] = deque()
        with ThreadPoolExecutor(1) as tokenizing:
            for window in windows(texts, size, first):
                waiting.append(tokenizing.submit(self._tokenize, window))
                if len(waiting) > 1:
                    yield Window(waiting.popleft().result())
            for future in waiting:
                yield Window(future.result())

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return (start, end) characters of each token. See `TextEncoder.token_spans`.

        A tokenizer written in Python (that of MeCab) does not record them. Then each token is
        searched in the text, and has no characters where it is not found.
        """
        tokenizer = self.model.tokenizer
        if tokenizer.is_fast:
            with self._span_lock:
                encoding = tokenizer(
                    text, truncation=True, max_length=self.max_length, return_offsets_mapping=True
                )
            return cast("list[tuple[int, int]]", encoding["offset_mapping"])
        spans = []
        end = 0
        ids = self._tokenize([text]).ids(0).tolist()
        for token in tokenizer.convert_ids_to_tokens(ids):
            surface = token.removeprefix("##")
            start = text.find(surface, end)
            spans.append((start, start + len(surface)) if start >= 0 else (end, end))
            end = spans[-1][1]
        return spans
