"""What was encoded is kept, within a budget."""

from __future__ import annotations

from ollamapy.engine.encoded import Encoded


def test_rows_are_kept_until_others_need_their_place() -> None:
    kept = Encoded(100)
    kept.add(b"a", "rows of a", 40)
    kept.add(b"b", "rows of b", 40)
    assert kept.get(b"a") == "rows of a"

    kept.add(b"c", "rows of c", 40)

    assert (kept.get(b"a"), kept.get(b"b"), kept.get(b"c")) == ("rows of a", None, "rows of c")
    assert kept.size == 80 and len(kept) == 2


def test_rows_larger_than_all_that_may_be_kept_push_nothing_out() -> None:
    kept = Encoded(100)
    kept.add(b"a", "rows of a", 40)
    kept.add(b"b", "rows of b", 101)

    assert kept.has(b"a") and not kept.has(b"b")
