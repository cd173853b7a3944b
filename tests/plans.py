"""Plans of how to load a model in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ollamapy.loading import File, Files, LoadPlan


def plan(path: Path | str, n_ctx: int, n_slots: int = 1, **settings: Any) -> LoadPlan:
    """A plan for the file at a path; its digest is its name."""
    return LoadPlan(Files(File(Path(path), str(path))), n_ctx, n_slots, **settings)
