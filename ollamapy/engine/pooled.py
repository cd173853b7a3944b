"""A llama.cpp context whose output is one vector for a text: an embedding, or a reranker's score.

Pooling is fixed when a context is made, and a context that embeds computes an output for every token, so this is never the one
that generates. Two kinds of models, told apart by llama.cpp's context:

    causal       A token attends to those before it, through a KV cache. A text can come in pieces, in batches of any size; its
                 tokens' outputs are pooled here.
    not causal   A token attends to the whole text (BERT). A text must come whole, in one batch and one micro-batch, else llama.cpp
                 aborts the process; it pools by itself.

Nothing here deals with requests; ``llama.py`` passes in the library and the weights.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from ..context import POOLED_STATES, POOLED_TEXTS, pooled_batch
from ..errors import InvalidRequest, LoadFailed
from .rows import Row, Rows


class Pooled:
    """Vectors for texts of at most ``longest`` tokens.

    ``whole``: a text must come in one batch. ``n_batch`` tokens fit into a batch, of ``n_sequences`` texts, or one longer text that
    must be whole; the texts in work have at most ``n_cells`` tokens together. Not thread-safe.
    """

    def __init__(self, lib: Any, model: Any, params: Any, pooling: str, longest: int) -> None:
        self._lib = lib
        own: int = _own_pooling(lib, model)
        if pooling == "rank" and own != lib.LLAMA_POOLING_TYPE_RANK:
            raise InvalidRequest("the model does not support rerank, it has no head that scores")
        self._ranks = pooling == "rank"
        if not self._ranks and own not in (
            lib.LLAMA_POOLING_TYPE_CLS,
            lib.LLAMA_POOLING_TYPE_LAST,
        ):
            own = lib.LLAMA_POOLING_TYPE_MEAN
        self._own = own
        self.n_vector: int = (
            lib.llama_model_n_cls_out(model) if self._ranks else lib.llama_model_n_embd_out(model)
        )
        self._encodes = bool(lib.llama_model_has_encoder(model))
        states = lib.llama_model_is_recurrent(model) or lib.llama_model_is_hybrid(model)
        n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
        n_batch = pooled_batch(params.n_batch, n_vocab)
        # more sequences than tokens in a batch abort the process
        self.n_sequences = min(POOLED_STATES if states else POOLED_TEXTS, n_batch)

        # 1) As for a causal model: small batches, and a pooling of ours, unless the model's head does it.
        pools_here = lib.LLAMA_POOLING_TYPE_RANK if self._ranks else lib.LLAMA_POOLING_TYPE_NONE
        context = self._make(model, params, pools_here, n_batch, max(longest, n_batch))
        memory = lib.llama_get_memory(context)
        self.whole = self._encodes or not memory or not lib.llama_get_causal_attn(context)
        largest = n_batch
        if self.whole:
            # 2) It is none: batches that can hold the longest text.
            lib.llama_free(context)
            largest = max(longest, n_batch)
            context = self._make(model, params, own, largest, largest)
            memory = lib.llama_get_memory(context)
        self.context = context
        self._memory = memory
        self.n_batch = n_batch
        self.n_cells = max(longest, n_batch)
        self._rows = Rows(lib, largest)
        self._parts: dict[int, Any] = {}

    def _make(self, model: Any, params: Any, pooling: int, n_batch: int, n_cells: int) -> Any:
        """A context; its cache is one for all sequences, so that texts of different lengths are computed together."""
        lib = self._lib
        own = type(params).from_buffer_copy(params)
        own.n_ctx, own.n_batch, own.n_ubatch = n_cells, n_batch, n_batch
        own.n_outputs_max = own.n_outputs_max_per_seq = n_batch
        own.n_seq_max = self.n_sequences
        own.kv_unified = True
        own.embeddings = True
        own.pooling_type = pooling
        context = lib.llama_init_from_model(model, own)
        if not context:
            raise LoadFailed(
                f"no context for texts of {n_cells} tokens can be made, try a smaller num_ctx"
            )
        return context

    def compute(self, rows: Sequence[Row]) -> int:
        """Compute a batch; a row whose last output is needed ends its text, and :meth:`vector` has the text's vector then.

        Returns what ``Model.decode`` returns. Texts that are computed whole are forgotten at once.
        """
        lib = self._lib
        batch = self._rows.fill(rows, all_outputs=True)
        encode_or_decode = lib.llama_encode if self._encodes else lib.llama_decode
        status = int(encode_or_decode(self.context, batch))
        if status == 0:
            self._collect(rows)
        if self.whole and self._memory:
            lib.llama_memory_clear(self._memory, True)
        return status

    def _collect(self, rows: Sequence[Row]) -> None:
        import numpy

        lib = self._lib
        if self.whole or self._ranks:
            for id, _, _, wanted in rows:
                if wanted:
                    pointer = lib.llama_get_embeddings_seq(self.context, id)
                    self._parts[id] = numpy.ctypeslib.as_array(pointer, (self.n_vector,)).copy()
            return
        n_tokens = sum(len(tokens) for _, _, tokens, _ in rows)
        pointer = ctypes.cast(
            lib.llama_get_embeddings(self.context), ctypes.POINTER(ctypes.c_float)
        )
        outputs = numpy.ctypeslib.as_array(pointer, (n_tokens, self.n_vector))
        at = 0
        for id, position, tokens, wanted in rows:
            part = outputs[at : at + len(tokens)]
            at += len(tokens)
            if self._own == lib.LLAMA_POOLING_TYPE_MEAN:
                total = part.sum(axis=0, dtype=numpy.float64)
                total = total if position == 0 else self._parts[id] + total
                self._parts[id] = total / (position + len(tokens)) if wanted else total
            elif self._own == lib.LLAMA_POOLING_TYPE_LAST:
                self._parts[id] = part[-1].copy()
            elif position == 0:
                self._parts[id] = part[0].copy()

    def vector(self, id: int) -> Any:
        """The vector (a numpy array) of a text that has just ended, once."""
        return self._parts.pop(id)

    def forget(self, id: int) -> None:
        """Drop what is there of a text."""
        self._parts.pop(id, None)
        if self._memory:
            self._lib.llama_memory_seq_rm(self._memory, id, -1, -1)

    def close(self) -> None:
        """Free the context; the weights stay."""
        self._lib.llama_free(self.context)


def scores(lib: Any, model: Any) -> bool:
    """Is it a reranker?"""
    return bool(_own_pooling(lib, model) == lib.LLAMA_POOLING_TYPE_RANK)


def _own_pooling(lib: Any, model: Any) -> int:
    """The file's pooling (``<architecture>.pooling_type``), in llama.cpp's numbers; NONE where it has no such key."""
    buffer = ctypes.create_string_buffer(128)
    if lib.llama_model_meta_val_str(model, b"general.architecture", buffer, len(buffer)) < 0:
        return int(lib.LLAMA_POOLING_TYPE_NONE)
    key = buffer.value + b".pooling_type"
    if lib.llama_model_meta_val_str(model, key, buffer, len(buffer)) < 0:
        return int(lib.LLAMA_POOLING_TYPE_NONE)
    return int(buffer.value)
