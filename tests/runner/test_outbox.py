"""How events become frames: merged while nothing is urgent, in order, each request its own piece."""

from __future__ import annotations

from ollamapy.engine.events import Finished, TextOut
from ollamapy.runner.frames import Frame, FrameReader
from ollamapy.runner.outbox import MERGE_SECONDS, SIGN_OF_LIFE_SECONDS, Outbox, merged
from ollamapy.runner.protocol import Done, FromRunner, Piece, Texts, Tokens, Working


class Box:
    """An outbox whose time the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reader = FrameReader(FromRunner)
        self.written: list[list[Frame]] = []
        self.outbox = Outbox(self.write, lambda: self.now)

    def write(self, data: bytes) -> None:
        self.written.append(list(self.reader.feed(data)))

    def closed(self) -> list[list[Frame]]:
        self.outbox.close()
        return self.written


def text(id: int, words: str, first: bool = False) -> TextOut:
    return TextOut(id, words, (), first)


DONE = Finished(1, "stop", 3, 0, 2, 1, 1, 0)


def test_texts_are_merged_by_request_and_endings_keep_their_place() -> None:
    events = [text(1, "a"), text(2, "x"), text(1, "b"), DONE, text(2, "y")]
    assert merged(events) == [  # type: ignore[arg-type]
        Texts((Piece(1, "ab"), Piece(2, "x"))),
        Done(1, "stop", 3, 0, 2, 1, 1, 0),
        Texts((Piece(2, "y"),)),
    ]


def test_what_waits_goes_when_the_time_is_up() -> None:
    box = Box()
    box.outbox.add([text(1, "first", first=True)])
    box.outbox.add([text(1, " a")])
    box.now += MERGE_SECONDS / 2
    box.outbox.add([text(1, " b")])
    box.now += MERGE_SECONDS / 2
    box.outbox.add([text(1, " c")])
    assert box.closed() == [[Texts((Piece(1, "first"),))], [Texts((Piece(1, " a b c"),))]]


def test_an_ending_takes_along_what_waits() -> None:
    box = Box()
    box.outbox.add([text(1, "first", first=True)])
    box.outbox.add([text(2, " a")])
    box.outbox.add([DONE])
    assert len(box.closed()) == 2 and len(box.written[1]) == 2


def test_nothing_waits_for_a_long_step() -> None:
    box = Box()
    box.outbox.add([text(1, "first", first=True)])
    box.outbox.add([text(1, " a")])
    box.outbox.flush()
    box.outbox.flush()
    assert box.closed()[1:] == [[Texts((Piece(1, " a"),))]]


def test_a_sign_of_life_only_after_silence() -> None:
    box = Box()
    box.outbox.add([text(1, "first", first=True)])
    box.outbox.alive()
    box.now += SIGN_OF_LIFE_SECONDS * 1.1
    box.outbox.alive()
    box.outbox.alive()
    box.outbox.send(Tokens(2, (1,), 1))
    assert box.closed()[1:] == [[Working()], [Tokens(2, (1,), 1)]]


def test_a_piece_has_the_count_of_tokens_at_its_end() -> None:
    counted = [TextOut(1, "a", (), True, False, 3), TextOut(1, "b", (), False, False, 4)]
    assert merged([*counted]) == [Texts((Piece(1, "ab", (), 4),))]
    alone = [TextOut(1, "a", (), True, True, 3)]
    assert merged([*alone]) == [Texts((Piece(1, "a", (), 3),))]


def test_texts_that_stand_alone_share_a_frame_but_not_a_piece() -> None:
    events = [TextOut(1, "a", (), True, True), text(2, "x"), TextOut(1, "b", (), False, True)]
    assert merged([*events, text(2, "y")]) == [
        Texts((Piece(1, "a"), Piece(1, "b"), Piece(2, "xy")))
    ]
