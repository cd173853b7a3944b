"""llama.cpp as the engine sees it: one model, a context that generates, contexts that pool (``pooled.py``), a batch at a time.

numpy is imported when log probabilities or vectors are first requested. Requests and slots belong to the engine.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..context import padded
from ..errors import InvalidRequest, LoadFailed
from ..loading import LoadPlan
from ..types import LoadStage, PromptToken, TokenLogprob
from . import likelihood
from .batch import CUT
from .contexts import context_params
from .cutting import PIECE, Boundaries, pieces
from .grammar import TokenTable
from .library import ctypes_layer
from .log import Log
from .media import FileParts, Inset, Projector
from .mediarows import MediaRows
from .pooled import Pooled, scores
from .rows import Row, Rows
from .samplers import make_chain
from .sampling import Stage
from .states import Shape, States, identity

FAR_TOO_LONG = 64
_CUTTABLE: Mapping[bytes, Literal["spm", "bpe"]] = {b"llama": "spm", b"gpt2": "bpe"}
"""A file's ``tokenizer.ggml.model`` -> how its texts can be cut."""

_kept: list[Any] = []
"""Loggers: llama.cpp has one for all models and may call it after the model that set it was closed."""


class Model:
    """A loaded model with a context of ``n_slots`` sequences, each of ``n_ctx`` tokens with a KV cache of its own, which has
    ``n_cells`` now.

    Per-slot caches (not unified) and flash attention where the model allows it, chosen by measurement (the table in
    benchmarks/README.md): what idle slots hold then costs nothing, and it is the arithmetic of Ollama's runner, so that
    the same seed gives the same text. Without ``generates`` there is no such context, only those of :meth:`pooled`.
    ``cut`` and ``alike`` are for :func:`ollamapy.engine.batch.calls`.
    Raises :class:`LoadFailed` when llama.cpp refuses the file or the context. Not thread-safe but for :meth:`tokenize`
    and :meth:`detokenize`, which only read the vocabulary.
    """

    def __init__(
        self,
        plan: LoadPlan,
        progress: Callable[[LoadStage, float], None] = lambda stage, fraction: None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._lib = ctypes_layer()
        self._flag = ctypes.create_string_buffer(2)
        self._log = Log(lambda: self._flag[0] != b"\x00", log)
        _kept.append(self._lib.llama_log_callback(self._log.write))
        self._lib.llama_log_set(_kept[-1], None)
        self._lib.llama_backend_init()
        self._load_weights(plan, progress)
        self._read_facts()
        self.projector = self._open_projector(plan)
        self._params = context_params(self._lib, plan)
        # The abort callback is libc's strlen on a flag: C calls it for every node of the graph, and it must not take the GIL.
        strlen = (ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)).strlen
        self._abort_callback = ctypes.cast(strlen, self._lib.ggml_abort_callback)
        self._pooled: dict[str, Pooled] = {}
        self.longest_input = self.n_ctx = self.n_cells = plan.n_ctx
        self.n_slots, self.n_batch = 0, plan.n_batch
        self.cut = min(CUT, plan.n_batch) if plan.deterministic else 0
        self.alike = 1
        self.can_shift = False
        self._context = self._memory = None
        self._rows: Rows
        self._states: States
        self.checkpoint_size = plan.checkpoint_size
        if plan.generates and self._lib.llama_model_has_decoder(self._model):
            progress("context", 1.0)
            self._make_context(plan)
        self._row_type: Any = ctypes.c_float * self.n_vocab
        self._pieces: list[bytes | None] = [None] * self.n_vocab
        self._eog: list[bool | None] = [None] * self.n_vocab

    def _load_weights(self, plan: LoadPlan, progress: Callable[[LoadStage, float], None]) -> None:
        """Load the model's files and its adapters. Raises LoadFailed."""
        lib = self._lib
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 999 if plan.gpu_layers < 0 else plan.gpu_layers
        params.main_gpu = plan.main_gpu
        params.load_mode = lib.LLAMA_LOAD_MODE_MMAP if plan.use_mmap else lib.LLAMA_LOAD_MODE_NONE
        params.use_extra_bufts = plan.extra_bufts

        def report(fraction: float, _: Any) -> bool:
            progress("weights", fraction)
            return True  # go on

        # Kept on self: C calls it during the load.
        self._progress_callback = lib.llama_progress_callback(report)
        params.progress_callback = self._progress_callback
        paths = [os.fsencode(file.path) for file in plan.files.weight_files]
        if len(paths) > 1:
            several = (ctypes.c_char_p * len(paths))(*paths)
            self._model = lib.llama_model_load_from_splits(several, len(paths), params)
        else:
            self._model = lib.llama_model_load_from_file(paths[0], params)
        if not self._model:
            raise LoadFailed(self._log.why("the model file cannot be loaded"))
        self._adapters = [self._load_adapter(file.path) for file in plan.files.adapters]
        self.n_layers: int = lib.llama_model_n_layer(self._model)
        self.gpu_layers = (
            min(params.n_gpu_layers, self.n_layers + 1) if lib.llama_supports_gpu_offload() else 0
        )

    def _read_facts(self) -> None:
        """The properties of the model and its vocabulary that the engine needs."""
        lib, model = self._lib, self._model
        self._vocab = lib.llama_model_get_vocab(model)
        self.n_vocab: int = lib.llama_vocab_n_tokens(self._vocab)
        self.n_swa: int = lib.llama_model_n_swa(model)
        hybrid = bool(lib.llama_model_is_hybrid(model))
        self.recurrent = hybrid or bool(lib.llama_model_is_recurrent(model))
        self.has_cells = hybrid or not self.recurrent
        self.rewinds = not (self.n_swa or self.recurrent)
        rope = lib.llama_model_rope_type(model)
        self.mrope = rope in (lib.LLAMA_ROPE_TYPE_MROPE, lib.LLAMA_ROPE_TYPE_IMROPE)
        self.adds_bos = bool(lib.llama_vocab_get_add_bos(self._vocab))
        self.adds_eos = bool(lib.llama_vocab_get_add_eos(self._vocab))
        self.bos: int = lib.llama_vocab_bos(self._vocab)
        self.eos: int = lib.llama_vocab_eos(self._vocab)

    def _open_projector(self, plan: LoadPlan) -> Projector | None:
        """What encodes images or sounds for the model, if it has that."""
        if plan.files.projector is None or not plan.generates:
            return None
        self._width = self._lib.llama_model_n_embd_inp(self._model)
        try:
            return Projector(plan, self._model, self._width, lambda take: take(_kept[-1], None))
        except LoadFailed as error:
            raise LoadFailed(self._log.why(str(error))) from None

    def _make_context(self, plan: LoadPlan) -> None:
        """Take a new context for generating. A model that only reads (an encoder) has no cache for it and stays without. Raises
        LoadFailed; then nothing has changed."""
        lib = self._lib
        if self.projector is not None:
            n_batch = max(plan.n_batch, self.projector.least_batch)
            plan = msgspec.structs.replace(plan, n_batch=n_batch)
        params = context_params(lib, plan)
        context = lib.llama_init_from_model(self._model, params)
        if not context:
            size = f"{plan.n_slots} x {plan.held}"
            raise LoadFailed(self._log.why(f"no context of {size} tokens can be made"))
        memory = lib.llama_get_memory(context)
        if not memory:
            lib.llama_free(context)
            return
        self._context, self._memory, self._params = context, memory, params
        self.n_cells = lib.llama_n_ctx_seq(context)
        self.n_slots = plan.n_slots
        self.n_batch = min(plan.n_batch, lib.llama_n_batch(context))
        self.can_shift = bool(lib.llama_memory_can_shift(memory))
        self._set_up(context)
        self._rows = Rows(lib, self.n_batch)
        if self.projector is not None:
            self._media_rows = MediaRows(lib, self.n_batch, self._width)
        shape = Shape(self.has_cells, self.n_swa > 0, self.recurrent)
        self._states = States(lib, context, plan.n_slots, shape)
        self._promise(plan)

    def _promise(self, plan: LoadPlan) -> None:
        """Take a plan's length for the context, whether there are cells for all of it or not."""
        self.n_ctx = max(self.n_cells, padded(plan.n_ctx)) if plan.n_cells else self.n_cells

    def resize(self, plan: LoadPlan, slots: Sequence[int]) -> list[bool]:
        """Make the context anew for a plan that has another size, and move these slots into its first ones, in their order.

        Which of them are there; the others are empty. Raises LoadFailed; then nothing has changed. Both contexts exist meanwhile,
        and a slot's state twice; where only the length changes that a request may come to have, there is no new one.
        """
        if not self.generates:
            return []
        if (plan.n_slots, padded(plan.held)) == (self.n_slots, self.n_cells):
            self._promise(plan)
            return [True] * len(slots)
        context, states = self._context, self._states
        self._make_context(plan)
        self.checkpoint_size = plan.checkpoint_size
        if not self._pooled:  # these have the length that they were made for
            self.longest_input = plan.n_ctx
        moved = [states.move(slot, self._states, at) for at, slot in enumerate(slots)]
        for at, is_there in enumerate(moved):
            if not is_there:
                self.trim(at, 0)
        self._lib.llama_free(context)
        return moved

    def fitted(self, partial: bytearray, n_slots: int) -> bytearray | None:
        """A partial state that was saved when there were ``n_slots``, for the context of now; None where that cannot be."""
        return self._states.fitted(partial, n_slots)

    def _load_adapter(self, path: Path) -> Any:
        """A LoRA on the model; freed with it."""
        adapter = self._lib.llama_adapter_lora_init(self._model, os.fsencode(path))
        if not adapter:
            raise LoadFailed(self._log.why("an adapter of the model cannot be loaded"))
        return adapter

    def _set_up(self, context: Any) -> None:
        """What every context of the model has: its adapters, and the flag of :meth:`abort`."""
        n = len(self._adapters)
        if n:
            adapters = (self._lib.llama_adapter_lora_p_ctypes * n)(*self._adapters)
            scales = (ctypes.c_float * n)(*[1.0] * n)
            self._lib.llama_set_adapters_lora(context, adapters, n, scales)
        flag = ctypes.addressof(self._flag)
        self._lib.llama_set_abort_callback(context, self._abort_callback, flag)

    @property
    def generates(self) -> bool:
        """Can it generate text? Encoders, and models loaded only to embed, cannot."""
        return self._context is not None

    def pooled(self, pooling: str) -> Pooled:
        """A second context on the same weights whose output is one vector for a text; made when it is first needed.

        ``pooling``: "rank" for the score of a reranker, "" for a vector as the model makes it, or the mean of its tokens'
        where it has no pooling of its own. Raises InvalidRequest for "rank" where the model has no such head, LoadFailed.
        """
        found = self._pooled.get(pooling)
        if found is None:
            found = Pooled(self._lib, self._model, self._params, pooling, self.longest_input)
            self._set_up(found.context)
            self._pooled[pooling] = found
        return found

    @property
    def identity(self) -> tuple[str, ...]:
        """What changes the states of its slots, beside the plan's files and settings."""
        return identity(self._lib, self._model, self.n_ctx)

    @property
    def pooling(self) -> str:
        """What the model was made for: "rank" or ""."""
        return "rank" if scores(self._lib, self._model) else ""

    def warm_up(self, n: int = 32) -> None:
        """Compute a batch of ``n`` tokens and forget it: kernels that are built wrong fault here and not in a request.

        More than one token, because single ones take other kernels.
        """
        n = min(n, self.n_batch, self.longest_input)
        rows: list[Row] = [(0, 0, [max(self.bos, 0)] * n, True)]
        status = self.decode(rows) if self.generates else self.pooled(self.pooling).compute(rows)
        if status:
            raise LoadFailed(self._log.why(f"the model cannot be computed (status {status})"))
        if self.generates:
            self.trim(0, 0)
        else:
            self.pooled(self.pooling).forget(0)

    def close(self) -> None:
        """Free the contexts and the model."""
        for pooled in self._pooled.values():
            pooled.close()
        if self.projector is not None:
            self.projector.close()
        if self._context is not None:
            self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._model)

    # ---- the batch -------------------------------------------------------------------------------------------------

    def decode(self, spans: list[Row]) -> int:
        """Compute a batch of (slot, first position, tokens, how many of the last ones need logits).

        Returns 0, 1 (no room in the KV cache), 2 (stopped by :meth:`abort`) or a negative number (fatal). The logits of the i-th span that needs them are row
        i of :meth:`sample`. At most ``n_batch`` tokens, one sequence id a token.
        """
        return self._computed(self._rows.fill(spans))

    def _computed(self, batch: Any) -> int:
        status = int(self._lib.llama_decode(self._context, batch))
        self._states.settle()
        if status == 0:
            # on a device the call returns before the work is done, and its time says nothing of the speed
            self._lib.llama_synchronize(self._context)
        return status

    def encode(self, inset: Inset) -> None:
        """Make the rows of an inset, if they are not kept. Cannot be aborted. Raises InvalidRequest."""
        if not inset.causal and inset.n > self.n_batch:
            raise InvalidRequest(
                f"an image has {inset.n} tokens, batches of the model {self.n_batch}"
            )
        self._projecting.encode(inset)

    def decode_inset(
        self, slot: int, position: int, inset: Inset, first: int, n: int, last: bool
    ) -> int:
        """Compute ``n`` rows of an inset that begins at ``position``, from its row ``first`` on, all of them where it is not causal.

        ``last``: the logits of the last one are row 0 of :meth:`sample`. Returns what :meth:`decode` does.
        """
        lib, rows = self._lib, self._projecting.encode(inset)
        batch = self._media_rows.fill(slot, position, inset, rows, first, n, last)
        self._rows.wanted = [n - 1] if last else []
        if inset.causal:
            return self._computed(batch)
        lib.llama_set_causal_attn(self._context, False)
        try:
            return self._computed(batch)
        finally:
            lib.llama_set_causal_attn(self._context, True)

    def sample(self, chain: Any, row: int) -> int:
        """The next token from row ``row`` of the last batch; the chain takes note of it."""
        return int(self._lib.llama_sampler_sample(chain, self._context, self._rows.wanted[row]))

    def accept(self, chain: Any, token: int) -> None:
        """Let the chain take note of a token that it did not choose."""
        self._lib.llama_sampler_accept(chain, token)

    def logits(self, row: int) -> Any:
        """The logits of a row of the last batch: llama.cpp's own floats as a numpy array, until the next :meth:`decode`.

        What is changed in it, :meth:`sample` sees.
        """
        import numpy

        pointer = self._lib.llama_get_logits_ith(self._context, self._rows.wanted[row])
        floats = self._row_type.from_address(ctypes.addressof(pointer.contents))
        return numpy.frombuffer(floats, numpy.float32)

    def logprobs(self, logits: Any, token: int, top: int) -> TokenLogprob:
        """The log probability of ``token`` and of the ``top`` likeliest, from raw :meth:`logits`."""
        return likelihood.logprobs(logits, token, top, self.piece)

    def prompt_token(self, logits: Any, token: int, top: int) -> PromptToken:
        """A token of a prompt, from the raw :meth:`logits` of the one before it; None for the first."""
        return likelihood.prompt_token(logits, token, top, self.piece)

    def abort(self) -> None:
        """Make a running :meth:`decode` return 2, and every later one until :meth:`rearm`. For any thread."""
        self._flag[0] = b"\x01"

    def rearm(self) -> None:
        """Take :meth:`abort` back."""
        self._flag[0] = b"\x00"

    # ---- the KV cache ----------------------------------------------------------------------------------------------

    def trim(self, slot: int, n: int) -> bool:
        """Forget what a slot holds from position ``n`` on; False when the model cannot (then only n = 0 works)."""
        return bool(self._lib.llama_memory_seq_rm(self._memory, slot, n, -1))

    def copy(self, source: int, target: int, n: int) -> None:
        """Make ``target`` hold the first ``n`` tokens of ``source``.

        Each slot's cache is a stream of its own: only a whole one can be copied (a part aborts the process), so the
        tail is cut off afterwards. Nothing is copied before the next decode.
        """
        lib, memory = self._lib, self._memory
        lib.llama_memory_seq_rm(memory, target, -1, -1)
        lib.llama_memory_seq_cp(memory, source, target, -1, -1)
        lib.llama_memory_seq_rm(memory, target, n, -1)
        self._states.unsettle(target)

    def shift(self, slot: int, keep: int, discard: int, n_past: int) -> None:
        """Forget ``discard`` tokens after the first ``keep`` and move the rest, up to ``n_past``, into their place."""
        lib, memory = self._lib, self._memory
        lib.llama_memory_seq_rm(memory, slot, keep, keep + discard)
        lib.llama_memory_seq_add(memory, slot, keep + discard, n_past, -discard)
        self._states.unsettle(slot)

    def first_position(self, slot: int) -> int:
        """The smallest position that a slot still holds, -1 when it is empty."""
        return int(self._lib.llama_memory_seq_pos_min(self._memory, slot))

    def state_size(self, slot: int, *, partial: bool) -> int:
        """Bytes of a slot's state; ``partial``: of the part that cannot be cut. 0 where it cannot be copied now."""
        return self._states.size(slot, partial=partial)

    def save(self, slot: int, *, partial: bool) -> bytearray | None:
        """A copy of a slot's state, or of the part that cannot be cut."""
        return self._states.save(slot, partial=partial)

    def restore(self, slot: int, state: bytearray, *, partial: bool) -> bool:
        """Put a state back, into any slot; False where it is refused: the slot must be cleared then."""
        return self._states.restore(slot, state, partial=partial)

    # ---- samplers --------------------------------------------------------------------------------------------------

    def make_sampler(self, stages: Sequence[Stage], history: Sequence[int]) -> Any:
        """A sampler chain in C that has seen ``history``; give it back to :meth:`free_sampler`. Raises InvalidRequest."""
        return make_chain(self._lib, self.n_vocab, stages, history)

    def free_sampler(self, chain: Any) -> None:
        """Free a chain of :meth:`make_sampler`."""
        self._lib.llama_sampler_free(chain)

    # ---- the vocabulary --------------------------------------------------------------------------------------------

    def tokenize(
        self,
        text: str,
        add_special: bool = True,
        parse_special: bool = True,
        check: Callable[[], None] = lambda: None,
    ) -> list[int]:
        """The token ids of a text; with ``parse_special`` special tokens in it are recognised.

        With ``add_special`` BOS (and what else the model adds) is put around it, also where the text brings its own: who
        renders a template leaves out what is added here. ``check`` is called before each piece of a long text; what it
        raises ends the work.
        """
        if len(text) <= 2 * PIECE or (boundaries := self._boundaries) is None:
            return self._tokenized(text, add_special, parse_special)
        first, *rest = pieces(text, boundaries)
        check()
        tokens = self._tokenized(first, add_special, parse_special)
        closing = tokens[len(tokens) - self.n_closing() :] if add_special else []
        del tokens[len(tokens) - len(closing) :]
        before = first[-1]
        for piece in rest:
            check()
            seen = len(self._tokenized(before, False, parse_special))
            tokens += self._tokenized(before + piece, False, parse_special)[seen:]
            before = piece[-1]
        return tokens + closing

    def _tokenized(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        """The token ids of a text, all of it at once."""
        data = text.encode("utf-8", "replace")
        size = len(data) + 8
        tokens = (ctypes.c_int32 * size)()
        n = self._lib.llama_tokenize(
            self._vocab, data, len(data), tokens, size, add_special, parse_special
        )
        if n < 0:  # a vocabulary that makes more tokens than bytes returns how many
            tokens = (ctypes.c_int32 * -n)()
            n = self._lib.llama_tokenize(
                self._vocab, data, len(data), tokens, -n, add_special, parse_special
            )
        return list(tokens[:n])

    @cached_property
    def _boundaries(self) -> Boundaries | None:
        """Where a text can be cut, read at the first long one; None for vocabularies whose texts are tokenized whole."""
        lib, vocab = self._lib, self._vocab
        name = ctypes.create_string_buffer(64)
        lib.llama_model_meta_val_str(self._model, b"tokenizer.ggml.model", name, len(name))
        kind = _CUTTABLE.get(name.value)
        if kind is None:
            return None
        special = (
            lib.LLAMA_TOKEN_ATTR_CONTROL
            | lib.LLAMA_TOKEN_ATTR_USER_DEFINED
            | lib.LLAMA_TOKEN_ATTR_UNKNOWN
        )
        stripping = lib.LLAMA_TOKEN_ATTR_LSTRIP | lib.LLAMA_TOKEN_ATTR_RSTRIP
        attributes = [lib.llama_vocab_get_attr(vocab, token) for token in range(self.n_vocab)]
        specials = [token for token, found in enumerate(attributes) if found & special]
        written = self._all_pieces()
        for token in specials:
            written[token] = self._to_piece(token, True)
        texts = [written[token].decode(errors="replace") for token in specials]
        return Boundaries(kind, written, texts, any(found & stripping for found in attributes))

    def n_closing(self) -> int:
        """How many tokens are put after a text: BERT's [SEP], a T5's end of sequence; mostly none."""
        around = self.tokenize("")
        opened = around[:1] == [self.bos] and (len(around) > 1 or self.adds_bos)
        return len(around) - opened

    def rerank_tokens(self, query: str, document: str) -> list[int]:
        """A query and a document as a reranker reads them, as llama-server puts them together: by the model's template of that
        name, else BOS? query EOS? SEP? document EOS?, whichever of them its tokenizer adds.
        """
        lib = self._lib
        if template := lib.llama_model_chat_template(self._model, b"rerank"):
            text = template.decode(errors="replace")
            text = text.replace("{query}", query).replace("{document}", document)
            return self.tokenize(text, False, True)
        sep: int = lib.llama_vocab_sep(self._vocab)
        opening = [self.bos] if self.adds_bos else []
        ending = [self.eos if self.eos >= 0 else sep] if self.adds_eos else []
        between = [sep] if lib.llama_vocab_get_add_sep(self._vocab) else []
        first, second = (self.tokenize(text, False, False) for text in (query, document))
        return [*opening, *first, *ending, *between, *second, *ending]

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens written out; ids outside the vocabulary raise InvalidRequest."""
        for token in tokens:
            if not 0 <= token < self.n_vocab:
                raise InvalidRequest(f"token {token} is not in the model's vocabulary")
        array = (ctypes.c_int32 * max(len(tokens), 1))(*tokens)
        size = 16 * len(tokens) + 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = self._lib.llama_detokenize(
                self._vocab, array, len(tokens), buffer, size, False, True
            )
            if n >= 0:
                return buffer.raw[:n].decode(errors="replace")
            size = -n

    def read_media(self, file: bytes) -> FileParts:
        """What stands for an image or a sound in a prompt. For any thread. Raises InvalidRequest."""
        return self._projecting.read(file)

    def count_media(self, file: bytes) -> int:
        """The tokens of an image or a sound, which is not decoded for it. For any thread. Raises InvalidRequest."""
        return self._projecting.count(file)

    @property
    def _projecting(self) -> Projector:
        if self.projector is None:
            raise InvalidRequest("the model neither sees nor hears: leave the images out")
        return self.projector

    def is_far_too_long(self, text: str, check: Callable[[], None] = lambda: None) -> bool:
        """Does a text have more tokens than any context can take? Answered without tokenizing all of it.

        Texts up to ``FAR_TOO_LONG`` characters for each token of the context are never called so; of a longer one the
        beginning is tokenized, and as much more as it takes to be sure.
        """
        part = FAR_TOO_LONG * self.n_ctx
        while len(text) > part:
            if len(self.tokenize(text[:part], add_special=False, check=check)) > self.n_ctx:
                return True
            part *= 2
        return False

    def piece(self, token: int) -> bytes:
        """The bytes of a token; control tokens have none."""
        piece = self._pieces[token]
        if piece is None:
            piece = self._pieces[token] = self._to_piece(token, False)
        return piece

    def written(self, token: int) -> bytes:
        """The bytes of a token, control tokens written out."""
        return self.piece(token) or self._to_piece(token, True)

    def _all_pieces(self) -> list[bytes]:
        """What :meth:`piece` is for every token, with one buffer for all of them: two thirds of the time."""
        to_piece, vocab = self._lib.llama_token_to_piece, self._vocab
        buffer = ctypes.create_string_buffer(256)
        view, size = memoryview(buffer), ctypes.sizeof(buffer)
        pieces = []
        for token in range(self.n_vocab):
            n = to_piece(vocab, token, buffer, size, 0, False)
            pieces.append(bytes(view[:n]) if n >= 0 else self.piece(token))
        return pieces

    def control_token(self, text: str) -> int | None:
        """The control token that is written so; None where there is none."""
        tokens = self.tokenize(text, add_special=False)
        return tokens[0] if len(tokens) == 1 and not self.piece(tokens[0]) else None

    def _to_piece(self, token: int, special: bool) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        n = self._lib.llama_token_to_piece(self._vocab, token, buffer, 64, 0, special)
        if n < 0:
            buffer = ctypes.create_string_buffer(-n)
            n = self._lib.llama_token_to_piece(self._vocab, token, buffer, -n, 0, special)
        return buffer.raw[: max(n, 0)]

    def token_table(self) -> TokenTable:
        """The whole vocabulary for grammars. For any thread; 0.1 s for 152,000 tokens."""
        pieces = self._all_pieces()
        silent = [token for token, piece in enumerate(pieces) if not piece]
        for token in silent:
            pieces[token] = b"\xff" + self._to_piece(token, True)
        ends = [token for token in {*silent, self.eos} if token >= 0 and self.ends(token)]
        tokenize = ctypes.cast(self._lib._lib.llama_tokenize, ctypes.c_void_p).value
        return TokenTable(pieces, ends, self._vocab, tokenize or 0)

    def token_text(self, token: int) -> str:
        """How a token is written in a template, such as "<s>"; empty for -1, the token that a model does not have."""
        if token < 0:
            return ""
        return str(self._lib.llama_vocab_get_text(self._vocab, token).decode(errors="replace"))

    def ends(self, token: int) -> bool:
        """Is this an end-of-generation token?"""
        known = self._eog[token]
        if known is None:
            known = self._eog[token] = bool(self._lib.llama_vocab_is_eog(self._vocab, token))
        return known
