"""Images and sounds over real llama.cpp and libmtmd, with small projectors of five kinds: the tokens are those that libmtmd's own
program gets, whatever is reused, shared or computed beside them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from collections.abc import Sequence as Several
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ollamapy.engine.encoded import Encoded
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, TextOut
from ollamapy.engine.llama import Model
from ollamapy.engine.prompt import prompt_tokens
from ollamapy.engine.sequence import Sequence
from ollamapy.errors import InvalidRequest, LoadFailed
from ollamapy.loading import File
from ollamapy.types import Generation, Media, Prompt, Sampling
from tests.pictures import png
from tests.plans import plan
from tests.small_projectors import KINDS, MARKERS, Kind, bitmap, projector, seeing_model, wave

pytestmark = pytest.mark.llama

CAT, DOG = bitmap(200, 150, seed=1), bitmap(200, 150, seed=2)
N = 16
"""Tokens of an answer."""


def file_of(kind: Kind, seed: int = 1) -> bytes:
    """An image that differs from those of other seeds, or a sound."""
    return wave(0.5, 300.0 + 100 * seed) if kind == "qwen2a" else bitmap(200, 150, seed)


def prompt_of(parts: Several[str | bytes]) -> Prompt:
    """The prompt of texts and files."""
    return Prompt(tuple(Media(part) if isinstance(part, bytes) else part for part in parts))


def load(folder: Path, kind: Kind, n_slots: int = 2, n_batch: int = 512, **more: Any) -> Model:
    weights, sight = seeing_model(folder, kind, markers=more.pop("markers", True))
    made = plan(weights, n_ctx=2048, n_slots=n_slots, n_batch=n_batch, threads=1, **more)
    files = msgspec.structs.replace(made.files, projector=File(sight, f"sha256:{kind}"))
    return Model(msgspec.structs.replace(made, files=files, encoded_size=10**7))


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def model(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    model = load(tmp_path_factory.mktemp("models"), kind)
    yield model
    model.close()


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    model = load(tmp_path_factory.mktemp("models"), "mlp", n_slots=8)
    yield model
    model.close()


@pytest.fixture(scope="module")
def ears(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    model = load(tmp_path_factory.mktemp("models"), "qwen2a")
    yield model
    model.close()


class Served:
    """An engine of its own over a model, whose slots are empty; ``encoded`` counts what libmtmd encoded."""

    def __init__(self, model: Model) -> None:
        self.model = model
        for slot in range(model.n_slots):
            model.trim(slot, 0)
        self.events: list[Event] = []
        self.engine = Engine(model, self.events.extend)
        self.ids = 0

    def submit(self, parts: Several[str | bytes], n: int = N, **more: Any) -> int:
        self.ids += 1
        prompt = prompt_of(parts)
        found = prompt_tokens(self.model, prompt, lambda: None)
        generation = Generation(prompt, Sampling(temperature=0), num_predict=n, **more)
        self.engine.submit(Sequence(self.ids, found.ids, generation, insets=found.insets))
        return self.ids

    def run(self) -> None:
        while self.engine.step(wait=False):
            pass

    def ask(self, *parts: str | bytes, n: int = N) -> str:
        id = self.submit(parts, n)
        self.run()
        return self.text(id)

    def text(self, id: int) -> str:
        return "".join(e.text for e in self.events if isinstance(e, TextOut) and e.id == id)

    def likelihood(self, id: int) -> tuple[str, float]:
        """The first token, and its log probability."""
        first = next(e for e in self.events if isinstance(e, TextOut) and e.id == id)
        return first.logprobs[0].token, first.logprobs[0].logprob

    def ending(self, id: int) -> Finished:
        return next(e for e in self.events if isinstance(e, Finished) and e.id == id)


class Counted:
    """How many times libmtmd encodes."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        from llama_cpp import mtmd_cpp

        self.n = 0
        encode = mtmd_cpp.mtmd_encode_chunk

        def counted(*arguments: Any) -> Any:
            self.n += 1
            return encode(*arguments)

        monkeypatch.setattr(mtmd_cpp, "mtmd_encode_chunk", counted)


def helper_text(model: Model, parts: Several[str | bytes], n: int = N) -> str:
    """What libmtmd's own helper makes of a prompt, in slot 0: the greedy answer."""
    from llama_cpp import mtmd_cpp

    lib, context, projector = model._lib, model._context, model._projecting._context
    files = [part for part in parts if isinstance(part, bytes)]
    text = "".join(part if isinstance(part, str) else "<__media__>" for part in parts).encode()
    given = mtmd_cpp.mtmd_input_text(text, len(text), True, True)
    bitmaps = (ctypes.c_void_p * len(files))(
        *(
            mtmd_cpp.mtmd_helper_bitmap_init_from_buf(
                projector, (ctypes.c_uint8 * len(file)).from_buffer_copy(file), len(file), False
            )
            for file in files
        )
    )
    chunks = mtmd_cpp.mtmd_input_chunks_init()
    assert not mtmd_cpp.mtmd_tokenize(projector, chunks, ctypes.byref(given), bitmaps, len(files))
    model.trim(0, 0)
    end = ctypes.c_int32()
    assert not mtmd_cpp.mtmd_helper_eval_chunks(
        projector, context, chunks, 0, 0, model.n_batch, True, ctypes.byref(end)
    )
    sampler = lib.llama_sampler_init_greedy()
    answer = b""
    for position in range(end.value, end.value + n):
        token = lib.llama_sampler_sample(sampler, context, -1)
        if model.ends(token):
            break
        answer += model.piece(token)
        assert model.decode([(0, position, [token], 1)]) == 0
    model.trim(0, 0)
    return answer.decode(errors="replace")


# ---- the same tokens as libmtmd --------------------------------------------------------------------------------------


def test_the_tokens_are_those_of_libmtmds_helper(model: Model, kind: Kind) -> None:
    parts = ("ba ke lo ", file_of(kind), " mi na?")
    expected = helper_text(model, parts)

    assert expected.strip()
    assert Served(model).ask(*parts) == expected


def test_two_files_are_told_apart_by_their_places(model: Model, kind: Kind) -> None:
    one, two = file_of(kind), file_of(kind, 2)
    served = Served(model)
    answer = served.ask("ba ", one, " ke ", two, " lo?")

    assert answer == helper_text(model, ("ba ", one, " ke ", two, " lo?"))
    swapped = served.submit(["ba ", two, " ke ", one, " lo?"], 1, logprobs=0)
    again = served.submit(["ba ", one, " ke ", two, " lo?"], 1, logprobs=0)
    served.run()
    assert served.likelihood(swapped) != served.likelihood(again)


def test_a_file_may_come_first_and_last(model: Model, kind: Kind) -> None:
    first, last = (file_of(kind), " ba ke"), ("ba ke ", file_of(kind))
    served = Served(model)

    assert served.ask(*first) == helper_text(model, first)
    alone = Served(model).ask(*last)
    assert alone
    if MARKERS[kind]:  # else the helper leaves the last row without logits
        assert alone == helper_text(model, last)


def test_another_slot_and_a_neighbour_change_nothing(model: Model, kind: Kind) -> None:
    parts = ("ba ke lo ", file_of(kind), " mi na?")
    expected = Served(model).ask(*parts)
    served = Served(model)
    other = served.submit(["na mi lo ke ba " * 8], 40)
    served.engine.step(wait=False)
    id = served.submit(parts)
    served.run()

    assert served.text(id) == expected
    assert served.ending(other).reason in ("stop", "length")


def test_the_count_is_what_the_prompt_takes(model: Model, kind: Kind) -> None:
    file = file_of(kind)
    tokens = prompt_tokens(model, prompt_of([file]), lambda: None).ids

    assert model.count_media(file) == len(tokens) - model.adds_bos


@pytest.mark.parametrize(("format", "package"), [("WEBP", "PIL"), ("HEIF", "pillow_heif")])
def test_pillow_reads_what_libmtmd_does_not(llava: Model, format: str, package: str) -> None:
    pytest.importorskip(package)
    from PIL import Image

    if package == "pillow_heif":
        import pillow_heif

        pillow_heif.register_heif_opener()
    file = BytesIO()
    Image.open(BytesIO(CAT)).save(file, format, quality=95)

    assert llava.count_media(file.getvalue()) == 16
    assert Served(llava).ask("ba ", file.getvalue(), " ke?")
    with pytest.raises(InvalidRequest):
        llava.read_media(file.getvalue()[:60])


# ---- what is reused --------------------------------------------------------------------------------------------------


def test_a_second_question_about_a_file_reuses_it(
    model: Model, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = file_of(kind, 3)
    alone = Served(model).ask("ba ", file, " lo mi?")
    encoded = Counted(model, monkeypatch)
    served = Served(model)
    served.ask("ba ", file, " ke na?")
    n = encoded.n

    assert served.ask("ba ", file, " lo mi?") == alone
    assert served.ending(2).n_cached >= len(
        prompt_tokens(model, prompt_of(["ba ", file]), lambda: None).ids
    )
    assert encoded.n == n


def test_a_reused_prefix_never_ends_within_a_file(model: Model, kind: Kind) -> None:
    file = file_of(kind)
    served = Served(model)
    first = served.ask("ba ", file)
    edges = [
        len(prompt_tokens(model, prompt_of(parts), lambda: None).ids)
        for parts in (("ba ",), ("ba ", file))
    ]

    assert served.ask("ba ", file) == first
    assert edges[0] <= served.ending(2).n_cached < edges[1]


def test_the_same_image_in_eight_slots_is_encoded_once(
    llava: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = bitmap(64, 64, seed=9)
    encoded = Counted(llava, monkeypatch)
    served = Served(llava)
    ids = [served.submit([f"{word} ", image, " mi?"]) for word in "ba be bi bo bu da de di".split()]
    served.run()

    assert encoded.n == 1
    assert len({served.text(id) for id in ids}) > 1
    assert all(served.ending(id).n_cached == 0 for id in ids[:1])


def test_an_image_that_is_kept_is_not_decoded_again(
    llava: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = bitmap(64, 64, seed=31)
    served = Served(llava)
    expected = served.ask("ba ", image)
    monkeypatch.setattr(llava.projector, "_bitmap", None)

    assert Served(llava).ask("ba ", image) == expected


def test_an_image_whose_rows_went_meanwhile_is_decoded_again(llava: Model) -> None:
    image = bitmap(64, 64, seed=32)
    expected = Served(llava).ask("ba ", image)
    served = Served(llava)
    id = served.submit(["ba ", image])
    assert llava.projector is not None
    llava.projector.encoded = Encoded(10**7)
    served.run()

    assert served.text(id) == expected


def test_an_image_that_is_not_kept_is_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(tmp_path, "mlp")
    model._projecting.encoded._budget = 10
    encoded = Counted(model, monkeypatch)
    served = Served(model)
    assert served.ask("ba ", CAT) == served.ask("ba ke ", CAT)[:0] + served.ask("ba ", CAT)

    assert encoded.n >= 2
    model.close()


# ---- other streams ---------------------------------------------------------------------------------------------------


def test_others_get_their_token_between_two_encodes(
    llava: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(llava)
    talking = served.submit(["na mi lo"], 60)
    served.engine.step(wait=False)
    for seed in range(20, 24):
        served.submit(["ba ", bitmap(64, 64, seed)], 1)
    encoded = Counted(llava, monkeypatch)
    while encoded.n < 4:
        said, before = len(served.text(talking)), encoded.n
        served.engine.step(wait=False)
        assert encoded.n <= before + 1
        assert encoded.n == before or len(served.text(talking)) > said


def test_a_cancelled_request_leaves_the_slot_usable(llava: Model) -> None:
    expected = Served(llava).ask("ba ", CAT, " ke?")
    served = Served(llava)
    id = served.submit(["ba ", CAT, " lo?"])
    served.engine.step(wait=False)
    served.engine.cancel(id)
    served.run()

    assert served.ask("ba ", CAT, " ke?") == expected


def test_a_preempted_request_computes_its_image_again(llava: Model) -> None:
    expected = Served(llava).ask("ba ", CAT, " ke?")
    served = Served(llava)
    id = served.submit(["ba ", CAT, " ke?"])
    for _ in range(4):
        served.engine.step(wait=False)
    served.engine._preempt(served.engine._running[0])
    served.run()

    assert served.text(id) == expected


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_vocabulary_without_marks_is_refused_and_the_process_lives(tmp_path: Path) -> None:
    model = load(tmp_path, "idefics3", markers=False)

    with pytest.raises(InvalidRequest, match="do not belong together"):
        model.read_media(CAT)
    assert Served(model).ask("ba ke lo")
    model.close()


def test_a_sound_longer_than_a_batch_is_computed_in_parts(tmp_path: Path) -> None:
    model = load(tmp_path, "qwen2a", n_batch=128)
    parts = ("ba ", wave(0.5), " ke?")

    assert Served(model).ask(*parts) == helper_text(model, parts)
    model.close()


def test_a_batch_holds_an_image_whose_rows_see_each_other(tmp_path: Path) -> None:
    model = load(tmp_path, "gemma3", n_batch=8)
    parts = ("ba ", CAT, " ke?")

    assert model.n_batch >= 16
    assert Served(model).ask(*parts) == helper_text(model, parts)
    model.close()


def test_a_projector_of_another_width_is_a_load_failure(tmp_path: Path) -> None:
    weights, _ = seeing_model(tmp_path, "mlp")
    wrong = projector(tmp_path / "wrong.gguf", "mlp", width=32)
    made = plan(weights, n_ctx=256)
    files = msgspec.structs.replace(made.files, projector=File(wrong))

    with pytest.raises(LoadFailed, match="mismatch between text model"):
        Model(msgspec.structs.replace(made, files=files))


def test_models_neither_hear_nor_see_what_they_cannot(llava: Model, ears: Model) -> None:
    with pytest.raises(InvalidRequest, match="cannot hear"):
        llava.read_media(wave())
    with pytest.raises(InvalidRequest, match="cannot see"):
        ears.read_media(CAT)


@pytest.mark.parametrize("samples", [0, 1, 2, 400, 1599])
def test_a_sound_of_a_moment_is_refused_and_the_process_lives(ears: Model, samples: int) -> None:
    with pytest.raises(InvalidRequest, match="shorter than|cannot be decoded"):
        ears.read_media(wave(samples / 16_000))


def test_numbers_that_are_none_end_no_process(ears: Model) -> None:
    sound = bytearray(wave(0.5))
    sound[20:22] = (3).to_bytes(2, "little")  # floats
    sound[28:36] = (64_000).to_bytes(4, "little") + bytes([4, 0, 32, 0])
    sound[44:] = b"\0\0\xc0\x7f" * 4_000

    assert Served(ears).ask("ba ", bytes(sound), " ke?") is not None


@pytest.mark.parametrize(
    "file",
    [b"", b"hello", png(30, 20)[:60], png(9_000, 9_000), b"\xff\xd8\xff\xe0" + bytes(50)],
    ids=["empty", "text", "half a png", "bomb", "half a jpeg"],
)
def test_broken_files_are_refused(llava: Model, file: bytes) -> None:
    with pytest.raises(InvalidRequest):
        llava.read_media(file)


def test_no_program_is_started_for_a_file_that_cannot_be_decoded(
    llava: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ffmpeg", "ffprobe"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidRequest):
        llava.read_media(b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x10\x00\x10\x03" + bytes(300))

    assert not (tmp_path / "started").exists()
