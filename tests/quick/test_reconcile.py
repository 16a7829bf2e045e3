"""Whatever happened, the plan leads to what the store says, and nobody waits for it."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from serve.daemon.reconciler import Action, Situation, plan

A, B, C = "ttrl-x-1-aaaaaaaa", "ttrl-x-2-bbbbbbbb", "ttrl-cand-7-123456-3"
AB = {A, B}


def load(version):
    return Action("load", version)


def prove(version):
    return Action("prove", version)


def flip(version):
    return Action("flip", version)


def unload(version):
    return Action("unload", version)


@pytest.mark.parametrize(
    ("now", "actions"),
    [
        pytest.param(Situation(None, None, None), [], id="nothing learned yet"),
        pytest.param(Situation(A, None, None), [load(A)], id="first publication"),
        pytest.param(Situation(A, None, None, {A}), [prove(A)], id="loaded, not proven"),
        pytest.param(Situation(A, None, None, {A}, {A}), [flip(A)], id="loaded and proven"),
        pytest.param(Situation(A, None, A, {A}, {A}), [], id="steady"),
        pytest.param(Situation(A, None, A, {A}), [prove(A)], id="the live one's proof is old"),
        pytest.param(Situation(B, A, A, {A}, {A}), [load(B)], id="second publication"),
        pytest.param(Situation(B, A, B, AB, AB), [], id="the previous one stays loaded"),
        pytest.param(
            Situation(B, A, B, set()), [flip(None), load(B), load(A)], id="the engine restarted"
        ),
        pytest.param(
            Situation(B, A, B, {A}, {A}), [flip(A), load(B)], id="the engine lost the live one only"
        ),
        pytest.param(
            Situation(B, A, None, {A}, {A}, {B}), [flip(A)], id="broken: the previous serves"
        ),
        pytest.param(
            Situation(B, A, B, AB, {A}, {B}), [flip(A)], id="the live one answers wrongly"
        ),
        pytest.param(
            Situation(B, A, None, set(), broken=AB), [], id="both broken: the base serves"
        ),
        pytest.param(Situation(None, A, A, {A}, {A}), [flip(None)], id="rolled back to the base"),
        pytest.param(
            Situation(A, None, A, {A, B, C}, {A}, foreign={B}), [unload(C)], id="another daemon's"
        ),
        pytest.param(
            Situation(None, None, None, {A}, in_flight={A: 2}), [], id="requests end where they are"
        ),
        pytest.param(Situation(None, None, None, {A}), [unload(A)], id="nobody needs it"),
        pytest.param(
            Situation(A, None, A, {A, B, C}, {A}, leases={"ttrl-cand-7-", B}), [], id="a run's own"
        ),
        pytest.param(Situation(A, None, A, {A, C}, {A}), [unload(C)], id="a dead run's candidate"),
        pytest.param(Situation(None, None, None, {"other"}), [], id="somebody else's adapter"),
    ],
)
def test_the_plan(now, actions):
    assert plan(now) == actions


class World(RuleBasedStateMachine):
    """An engine, a store and a gateway; between any two actions anything may happen."""

    def __init__(self):
        super().__init__()
        self.wanted = self.previous = self.live = None
        self.loaded: set[str] = set()
        self.proven: set[str] = set()
        self.broken: set[str] = set()
        self.unservable: set[str] = set()
        self.in_flight: dict[str, int] = {}
        self.published = 0

    @rule()
    def publish(self):
        self.published += 1
        self.previous, self.wanted = self.wanted, f"ttrl-x-{self.published}-00000000"

    @rule()
    def roll_back(self):
        self.wanted, self.previous = self.previous, None

    @rule()
    def engine_dies(self):
        self.loaded.clear()
        self.in_flight.clear()

    @rule()
    def daemon_dies(self):
        """The engine, somebody else's, keeps what it has; the daemon has seen nothing of it."""
        self.live = None
        self.proven.clear()
        self.broken.clear()
        self.in_flight.clear()

    @rule()
    def files_are_damaged(self):
        if self.wanted:
            self.unservable.add(self.wanted)

    @rule()
    def proofs_grow_old(self):
        self.proven.clear()

    @rule(version=st.sampled_from([C, "somebody-elses"]))
    def others_load(self, version):
        self.loaded.add(version)

    @rule()
    def a_user_asks(self):
        if self.live in self.loaded:
            self.in_flight[self.live] = 1

    @rule()
    def users_are_answered(self):
        self.in_flight.clear()

    @rule(actions=st.integers(0, 3))
    def reconcile_for_a_moment(self, actions):
        """Interrupted after some actions of a plan."""
        for action in plan(self.situation())[:actions]:
            self.act(action)

    @rule()
    def reconcile_until_nothing_is_left(self):
        for _ in range(12):
            if not (actions := plan(self.situation())):
                break
            for action in actions:
                self.act(action)
        assert plan(self.situation()) == [], "it never settles"
        if self.live not in self.unservable:  # else its last proof has not grown old yet
            usable = [v for v in (self.wanted, self.previous) if v not in self.broken]
            assert self.live == next(iter(usable), None), "users do not get the best there is"
        needed = {self.live, self.wanted, self.previous, *self.in_flight, "somebody-elses"}
        assert self.loaded <= needed, "what nobody needs stays in the engine"

    def situation(self):
        return Situation(
            self.wanted, self.previous, self.live, frozenset(self.loaded),
            frozenset(self.proven & self.loaded), frozenset(self.broken), in_flight=self.in_flight,
        )  # fmt: skip

    def act(self, action):
        version = action.version
        match action.verb:
            case "load":
                assert version not in self.loaded | self.broken
                self.proven.discard(version)
                if version in self.unservable:
                    self.broken.add(version)
                else:
                    self.loaded.add(version)
            case "prove":
                assert version in self.loaded
                (self.broken if version in self.unservable else self.proven).add(version)
            case "flip":
                assert version is None or version in self.loaded & self.proven, "flipped blindly"
                self.live = version
            case "unload":
                assert version != self.live, "unloaded what users get"
                assert not self.in_flight.get(version), "cut an answer short"
                assert version != "somebody-elses"
                self.loaded.remove(version)

    @invariant()
    def users_get_the_base_or_a_version(self):
        assert self.live is None or self.live.startswith("ttrl-x-")


TestWorld = World.TestCase
