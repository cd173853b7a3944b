"""The files of a model, and the plan by which a runner loads them.

Frozen values, each made once and passed on unchanged: ``models/`` makes Files from a manifest, ``fleet/`` adds the plan, the
runner's child passes it to the engine. They cross the process boundary, so they are msgspec structs.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from .context import DEFAULT_BATCH


class File(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a model. ``digest`` ("sha256:…") identifies its content on every machine, ``path`` is its place on this one;
    ``size`` is bytes of the file.
    """

    path: Path
    digest: str = ""
    size: int = 0


class Files(msgspec.Struct, frozen=True, omit_defaults=True):
    """The files of a model. ``shards`` are those after ``weights`` of a model in several, in order; ``adapters`` are LoRAs that
    apply to all answers; ``projector`` is the GGUF that encodes images or audio for it.

    ``adapter_size`` is bytes of the adapters' tensors, which are copied into memory; ``projector_size`` those that the projector
    takes, with its compute buffer (``formats/projector.py``).
    """

    weights: File
    shards: tuple[File, ...] = ()
    adapters: tuple[File, ...] = ()
    projector: File | None = None
    adapter_size: int = 0
    projector_size: int = 0

    @property
    def key(self) -> str:
        """The identity of a loaded model: models with the same weights, adapters and projector share a runner."""
        projector = () if self.projector is None else (self.projector,)
        return "+".join(file.digest for file in (*self.weight_files, *self.adapters, *projector))

    @property
    def weight_files(self) -> tuple[File, ...]:
        """The weights: one file or all shards, in order."""
        return (self.weights, *self.shards)


class LoadPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a model is loaded: which files, and with what settings. ``n_ctx`` is tokens for each slot; -1 GPU layers means all.

    ``n_cells``: so many of each slot's tokens have memory from the beginning, and the others when a request comes near them; 0: all.

    ``flash_attention`` None leaves it to llama.cpp; ``kv_type`` is the type of the cache's cells, in ggml's names.
    ``extra_bufts``: weights may be repacked for faster kernels; ``warm_up``: a batch is computed before the runner is ready,
    to see whether these kernels work; ``tensor_types`` are the types of the weights, in ggml's names. Without ``generates``
    the model only embeds and has no cache for generating; ``embeds``: the context for embeddings is made with the load, not
    when it is first needed. ``deterministic``: a request gets the same tokens whatever else is computed meanwhile.
    ``checkpoint_size``: bytes for copies of states that cannot be cut (``engine/checkpoints.py``);
    ``saved_size``: bytes for saved prefixes in memory (``engine/saved.py``), 0 for none, in files neither;
    ``encoded_size``: bytes for encoded images and sounds. ``image_max_tokens``: a larger image is made smaller, if its tokens depend
    on its size (0: as the projector has it).
    """

    files: Files
    n_ctx: int
    n_slots: int = 1
    n_batch: int = DEFAULT_BATCH
    threads: int = 0
    gpu_layers: int = -1
    main_gpu: int = 0
    use_mmap: bool = False
    flash_attention: bool | None = None
    kv_type: str = "f16"
    extra_bufts: bool = True
    warm_up: bool = False
    tensor_types: tuple[str, ...] = ()
    generates: bool = True
    embeds: bool = False
    deterministic: bool = False
    checkpoint_size: int = 0
    saved_size: int = 0
    encoded_size: int = 0
    image_max_tokens: int = 0
    n_cells: int = 0

    @property
    def held(self) -> int:
        """Tokens of each slot that memory is taken for."""
        return self.n_cells or self.n_ctx

    @property
    def is_elastic(self) -> bool:
        """Can the context be made anew while the model is loaded? Where it makes the same tokens."""
        return self.generates and not self.deterministic
