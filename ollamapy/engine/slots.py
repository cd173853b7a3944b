"""The slots of the KV cache: which sequence runs in which, and what each still holds of earlier ones.

A prompt keeps what its slot holds of it already, or copies it from another slot. If that slot is still computing it, the
prompt waits: it follows. A state that cannot be cut is put back from a checkpoint. What is worth how much is decided in
``batch.py`` and ``checkpoints.py``; here it is done.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..loading import LoadPlan
from ..prefix import common_prefix
from .batch import (
    MIN_REUSE,
    Placement,
    Span,
    aligned,
    best_donor,
    gaps,
    place,
    reusable,
)
from .checkpoints import Checkpoint, Checkpoints, is_due, packed
from .mediatokens import edge, position
from .model import Model
from .rows import Row
from .saving import NEW, Saving
from .sequence import Sequence, Slot


class Slots:
    """The slots of one model; for the engine's thread alone."""

    def __init__(self, model: Model, saving: Saving | None = None) -> None:
        self._model = model
        self._saving = saving if not model.cut else None  # it has tokens of answers, too
        self._slots = [Slot(i) for i in range(model.n_slots)]
        self._admissions = 0
        unable = model.recurrent or model.n_swa > 0
        self._checkpoints = Checkpoints(model.checkpoint_size if unable else 0)

    def place(self, sequence: Sequence) -> Placement | None:
        """The best free slot for a sequence; None where all are taken."""
        tokens = [] if sequence.scores else sequence.tokens  # the cache has no logits
        return place(self._slots, tokens, salt=sequence.salt, shares=not self._model.recurrent)

    def give(self, sequence: Sequence, placement: Placement) -> None:
        """Let a sequence run in a slot, with what it can keep of the slot's or another's cache."""
        slot = placement.slot
        self._admissions += 1
        slot.last_used = self._admissions
        self._save(slot)
        slot.sequence, sequence.slot = sequence, slot
        if cut := self._model.cut:  # what is computed piece by piece is the same in every prompt
            scored = sequence.generation.prompt_logprobs is not None
            sequence.n_pure = 0 if scored else aligned(sequence.n_prompt, cut)
        if slot.salt != sequence.salt:
            slot.cached, slot.salt = [], sequence.salt
        own = placement.donor is slot or placement.donor is None
        if not own and self._restored(sequence, slot, placement.shared):
            slot.cached = []
        elif own:
            shared = 0 if sequence.scores else common_prefix(slot.cached, sequence.tokens)
            shared = aligned(min(shared, len(sequence.tokens) - 1), self._model.cut)
            shared = edge(sequence.tokens, shared)
            cached = len(slot.cached)
            slot.cached = []
            self._reuse(sequence, slot, shared, cached)
            self._restored(sequence, slot, sequence.n_past)
        else:
            assert placement.donor is not None
            self._follow(sequence, placement.donor, placement.shared)
            if sequence.leader is None and sequence.n_past == 0:
                self._restored(sequence, slot, 0)

    def _restored(self, sequence: Sequence, slot: Slot, n: int) -> bool:
        """Put a saved prefix into a slot where it is longer than the ``n`` tokens that the slots have of the prompt."""
        if self._saving is None or sequence.scores:
            return False
        match = self._saving.match(sequence.tokens, slot.salt)
        keep = edge(sequence.tokens, match.n)
        if match.n < n + NEW or (keep < match.n and not self._model.rewinds):
            return False
        whole = self._saving.restore(slot.id, match)
        self._keep(sequence, slot, keep if whole else 0)
        if not sequence.n_predicted:
            sequence.n_restored = sequence.n_cached
            sequence.n_read = min(sequence.n_read, sequence.n_restored)
        return whole

    def _follow(self, sequence: Sequence, donor: Slot, shared: int) -> None:
        """Copy the first ``shared`` tokens from another slot; wait until it has them, if it is still computing them."""
        slot, leader = sequence.slot, donor.sequence
        assert slot is not None
        slot.cached = []
        shared = edge(sequence.tokens, aligned(shared, self._model.cut))
        if leader is not None and leader.n_past < shared:
            self._model.trim(slot.id, 0)
            sequence.leader, sequence.shared = leader, shared
            return
        sequence.leader = None
        held = len(donor.cached) if leader is None else leader.n_past
        keep = self._reusable(sequence, donor, shared, held)
        if (found := self._better(sequence, shared, keep)) is not None:
            # not by a copy: its data comes with the next decode, over what is restored
            state = self._model.save(donor.id, partial=False)
            if state is not None and self._model.restore(slot.id, state, partial=False):
                self._keep(sequence, slot, self._go_back(slot, found))
                return
        if keep:
            self._model.copy(donor.id, slot.id, sequence.position(shared))
        self._keep(sequence, slot, keep)

    def _reuse(self, sequence: Sequence, slot: Slot, shared: int, held: int) -> None:
        """Cut a slot that holds ``held`` tokens back to what the prompt may keep of the ``shared`` ones, or further with a
        checkpoint."""
        keep = self._reusable(sequence, slot, shared, held)
        if (found := self._better(sequence, shared, keep)) is not None:
            keep = self._go_back(slot, found)
        self._keep(sequence, slot, keep)

    def _reusable(self, sequence: Sequence, slot: Slot, shared: int, held: int) -> int:
        """Tokens that the prompt may keep of a slot that holds ``held`` as it is, ``shared`` of them its own."""
        model = self._model
        shared = edge(sequence.tokens, min(shared, len(sequence.tokens) - 1))
        return reusable(
            shared,
            held,
            len(sequence.tokens),
            recurrent=model.recurrent,
            n_swa=model.n_swa,
            pos_min=model.first_position(slot.id) if model.n_swa and shared else 0,
        )

    def _better(self, sequence: Sequence, shared: int, keep: int) -> Checkpoint | None:
        """The checkpoint from which more of a prompt can be kept than ``keep`` tokens, of ``shared`` that a slot holds."""
        if not len(self._checkpoints) or sequence.scores:
            return None
        most = edge(sequence.tokens, len(sequence.tokens) - 1)
        if self._model.has_cells:
            most = min(most, shared)
        found = self._checkpoints.find(sequence.tokens, most, sequence.salt)
        return found if found is not None and found.n > keep else None

    def _go_back(self, slot: Slot, checkpoint: Checkpoint) -> int:
        """Restore a checkpoint in a slot that holds its tokens; how many it holds then, 0 where llama.cpp refuses."""
        model = self._model
        if model.restore(slot.id, checkpoint.state, partial=True):
            covered = not model.n_swa or model.first_position(slot.id) <= max(
                0, checkpoint.n - model.n_swa
            )
            if covered:
                self._checkpoints.use(checkpoint)
                return checkpoint.n
        self._checkpoints.drop(checkpoint)
        return 0

    def _keep(self, sequence: Sequence, slot: Slot, keep: int) -> None:
        """Cut a slot to ``keep`` tokens, from where its sequence goes on."""
        if not self._model.trim(slot.id, sequence.position(keep)):
            keep = 0
            self._model.trim(slot.id, 0)
        sequence.n_past = keep
        if not sequence.n_predicted:
            sequence.n_cached = keep

    def note(self, sequence: Sequence) -> None:
        """Take a checkpoint of what was just computed of a sequence, where one is due."""
        slot, model = sequence.slot, self._model
        if slot is not None and self._saving is not None and self._saving.is_time(slot.id):
            self._save_running(slot, sequence)
        if slot is None or not self._checkpoints.budget or sequence.n_pure is not None:
            return
        if not is_due(
            sequence.stops, sequence.n_past, sequence.n_prompt, recurrent=model.recurrent
        ):
            return
        prefix = packed(sequence.tokens[: sequence.n_past])
        size = len(prefix) + model.state_size(slot.id, partial=True)
        if self._checkpoints.has(prefix, slot.salt) or not self._checkpoints.make_room(
            size, self._held()
        ):
            return
        if (state := model.save(slot.id, partial=True)) is not None:
            self._checkpoints.add(Checkpoint(prefix, state, salt=slot.salt))

    def _held(self) -> list[bytes] | None:
        """What the slots hold, packed; None where a checkpoint is of use without it."""
        return [packed(slot.holding) for slot in self._slots] if self._model.has_cells else None

    def release_followers(self, running: Iterable[Sequence]) -> None:
        """Start the followers whose leaders have computed the shared prefix.

        A leader that is gone (finished, cancelled, preempted) may have left the prefix in its slot: the best donor of now is
        taken. The first of its followers then continues from what the leader had committed, and the others follow that one.
        A leader that has shifted its context no longer has the prefix.
        """
        for sequence in running:
            if (leader := sequence.leader) is None:
                continue
            has_it = leader.n_pure is None or leader.n_pure >= sequence.shared
            if leader.slot is not None and has_it:
                if leader.n_past >= sequence.shared:
                    self._follow(sequence, leader.slot, sequence.shared)
                continue
            assert sequence.slot is not None
            sequence.leader = None
            donor, shared = best_donor(self._slots, sequence.slot, sequence.tokens, sequence.salt)
            if donor is not None and shared >= MIN_REUSE:
                self._follow(sequence, donor, shared)

    def padding(self, rows: list[Row]) -> list[Row]:
        """One row for each gap between a batch's slots: any token after what the slot holds. None for a state that cannot go
        back."""
        model = self._model
        if model.recurrent or model.n_swa:
            return []
        found: list[Row] = []
        for id in gaps([row[0] for row in rows]):
            slot = self._slots[id]
            held = slot.sequence.n_past if slot.sequence is not None else len(slot.cached)
            if held < model.n_cells:
                found.append((id, self._end(slot), rows[0][2][:1], False))
        most = model.alike if model.cut else model.n_batch
        fits = sum(len(row[2]) for row in rows) + len(found) <= most
        return found if fits else []

    def _end(self, slot: Slot) -> int:
        """The position after what a slot holds."""
        if slot.sequence is not None:
            return slot.sequence.position(slot.sequence.n_past)
        return self._position(slot.cached)

    def _position(self, tokens: list[int]) -> int:
        """The position after some tokens."""
        return position(tokens, len(tokens)) if self._model.mrope else len(tokens)

    def roll_back(self, spans: list[Span]) -> None:
        """Go back to what was committed: an aborted batch may have left tokens in the cache without logits."""
        for span in spans:
            if (slot := span.sequence.slot) is None:
                continue
            sequence = span.sequence
            sequence.n_past = edge(sequence.tokens, span.start)
            if not self._model.trim(slot.id, sequence.position(sequence.n_past)):
                self._model.trim(slot.id, 0)
                sequence.n_past = 0

    def held(self, sequence: Sequence) -> int:
        """How many of a prompt's first tokens a slot holds or will hold soon. For any thread: about right."""
        held = (slot.holding_for(sequence.salt) for slot in self._slots)
        return max((common_prefix(each, sequence.tokens) for each in held), default=0)

    def _save(self, slot: Slot) -> None:
        """Save what an idle slot holds, if that is due."""
        if slot.unsaved and self._saving is not None:
            slot.unsaved = False
            self._copy(slot, slot.cached)

    def _copy(self, slot: Slot, tokens: list[int]) -> None:
        """Hand a copy of a slot over to be saved, with the checkpoints on the way, if there is enough new in it."""
        saving = self._saving
        if saving is not None and saving.is_worth(tokens, slot.salt):
            along = self._checkpoints.along(tokens, slot.salt)
            saving.save(slot.id, tokens, slot.salt, tuple((each.n, each.state) for each in along))

    def save_idle(self) -> None:
        """Save what idle slots hold, when there is nothing else to do."""
        for slot in self._slots:
            if slot.sequence is None:
                self._save(slot)

    def save_all(self) -> None:
        """Save what all slots hold, before the end."""
        self.save_idle()
        for slot in self._slots:
            if (sequence := slot.sequence) is not None and sequence.leader is None:
                self._save_running(slot, sequence)

    def _save_running(self, slot: Slot, sequence: Sequence) -> None:
        if not sequence.generation.private:
            self._copy(slot, sequence.tokens[: sequence.n_past][: sequence.n_pure])

    def forget(self) -> None:
        """Clear the idle slots and all checkpoints, and save none of it."""
        for slot in self._slots:
            if slot.sequence is None:
                slot.unsaved = False
                self.clear(slot)
        self._checkpoints.clear()

    def drop_idle(self) -> bool:
        """Clear the cache of the idle slot that was not used for longest; False where there is none."""
        idle = [slot for slot in self._slots if slot.sequence is None and slot.cached]
        if not idle:
            return False
        oldest = min(idle, key=lambda slot: slot.last_used)
        self._save(oldest)
        self.clear(oldest)
        return True

    def clear(self, slot: Slot) -> None:
        """Forget all that a slot holds."""
        self._model.trim(slot.id, 0)
        slot.cached = []

    def take(self, sequence: Sequence) -> None:
        """Take the slot away from a sequence that will need another one, and clear it."""
        assert sequence.slot is not None
        self.clear(sequence.slot)
        _part(sequence)

    def resize(self, plan: LoadPlan) -> list[Sequence]:
        """Let the model make its context anew for a plan with another size. The slots that run stay, then those used last.

        Returns the sequences that have lost their slot and must be prefilled again. Raises LoadFailed; then nothing has changed.
        """
        self.save_idle()
        n_before = self._model.n_slots
        by_use = sorted(self._slots, key=lambda slot: (slot.sequence is None, -slot.last_used))
        kept = sorted(by_use[: plan.n_slots], key=lambda slot: slot.id)
        moved = self._model.resize(plan, [slot.id for slot in kept])
        self._checkpoints.fit(
            plan.checkpoint_size, lambda state: self._model.fitted(state, n_before)
        )
        there = {slot.id for slot, is_there in zip(kept, moved, strict=True) if is_there}
        lost = [slot for slot in self._slots if slot.id not in there]
        for id, slot in enumerate(kept):
            slot.id = id
        self._slots = kept + [Slot(id) for id in range(len(kept), self._model.n_slots)]
        for slot in lost:
            slot.cached = []
        sequences = [slot.sequence for slot in lost if slot.sequence is not None]
        for sequence in sequences:
            _part(sequence)
        return sequences

    def free(self, sequence: Sequence) -> None:
        """Free the slot of a sequence that has ended; its cache stays for the next prompt with the same beginning."""
        if (slot := sequence.slot) is None:
            return
        slot.cached = sequence.tokens[: sequence.n_past][: sequence.n_pure]
        slot.sequence = sequence.slot = sequence.leader = None
        end = self._position(slot.cached)
        if len(slot.cached) < sequence.n_past and not self._model.trim(slot.id, end):
            self.clear(slot)  # tokens that a context shift has moved cannot be shared
        slot.unsaved = self._saving is not None and not sequence.generation.private
        if self._saving is not None and self._saving.is_quick(slot.id):
            self._save(slot)


def _part(sequence: Sequence) -> None:
    """Part a sequence from its slot; nothing is computed of it any more."""
    assert sequence.slot is not None
    sequence.slot.sequence = sequence.slot = sequence.leader = None
    sequence.n_past = 0
    sequence.n_pure = None
