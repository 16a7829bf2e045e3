"""The policy update by itself: each of its knobs changes what a real one does."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from tests.late import Late, torch, transformers
from ttrl.config import UpdateConfig
from ttrl.demo import model_dir
from ttrl.engine.proof import Pin
from ttrl.training import Row, TrainingEnded, UpdateDiverged

grpo = Late("ttrl.training.grpo")
tensors = Late("safetensors.torch")

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

QUESTIONS, KEEP, STEPS = 2, 4, 3


class Lines:
    """Sequences of different lengths from one question each, three of four worth the same."""

    def __init__(self, directory):
        self.numbers, self.trained = [], 0
        self.directory = directory
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir())
        self._random = random.Random(1)

    def next_batch(self, step, numbers):
        if step:
            self.numbers.append(numbers)
            self.save(self.directory)
            self.trained = step
        return self.rows()

    def rows(self):
        prompt = self._tokenizer("what is one plus two?")["input_ids"]
        rows = []
        for question in range(QUESTIONS):
            for place in range(KEEP):
                said = self._random.choices("0123456789 ", k=3 + 7 * place)
                ids = self._tokenizer("".join(said))["input_ids"]
                worth = float(place == question) * (1 + question)
                rows.append(Row(prompt, ids, [-2.4] * len(ids), worth))
        return rows


def train(lines, settings, *, steps=STEPS, parent=None, max_tokens=64):
    trainer = grpo.Trainer(
        str(model_dir()),
        parent,
        settings,
        steps=steps,
        temperature=1.0,
        max_tokens=max_tokens,
        scratch=lines.directory.parent,
    )
    lines.save, lines.trainer = trainer.save_adapter, trainer
    trainer.run(lines.next_batch)
    return trainer


@pytest.fixture(scope="module")
def update(tmp_path_factory):
    """Does an update; its weights in one row, and what was logged of each step. Each is done
    once."""
    done = {}

    def once(parent=None, steps=STEPS, **settings):
        key = str((parent, steps, settings))
        if key not in done:
            directory = tmp_path_factory.mktemp("update")
            lines = Lines(directory / "result")
            all_settings = UpdateConfig(
                questions_per_step=QUESTIONS,
                keep=KEEP,
                # The lines are none of the model's, and are to count all the same.
                grpo={"vllm_importance_sampling_correction": False} | settings.pop("grpo", {}),
                **{"micro_batch": 4, "learning_rate": 1e-3} | settings,
            )
            train(lines, all_settings, steps=steps, parent=parent)
            done[key] = lines.directory, lines.numbers
        return done[key]

    return once


def weights(directory):
    return tensors.load_file(directory / "adapter_model.safetensors")


def furthest(one, other):
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def moved(directory):
    """How far the weights went that are 0 in a fresh LoRA."""
    return max(float(each.abs().max()) for name, each in weights(directory).items() if "_B" in name)


def test_the_same_update_twice_is_the_same(update):
    first, _ = update()
    second, _ = update(seed=0)
    assert furthest(first, second) < 1e-6


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "grpo"},
        {"loss": "dr_grpo"},
        {"scale": "batch"},
        {"scale": "none"},
        {"kl": 0.5},
        {"top_entropy": 0.2},
        {"entropy_target": 5.0, "grpo": {"entropy_coef": 0.1}},
        {"grpo": {"max_grad_norm": 0.001, "weight_decay": 0.5}},
    ],
    ids=str,
)
def test_each_knob_changes_the_weights(update, settings):
    plain, _ = update()
    changed, _ = update(**settings)
    assert furthest(plain, changed) > 1e-4


def test_what_the_kl_term_holds_to(update):
    parent, _ = update()
    _, to_start = update(parent, kl=0.1)
    _, to_base = update(parent, kl=0.1, kl_to="base")
    assert to_start[0]["kl"] == pytest.approx(0, abs=1e-5), "nothing has moved yet"
    assert to_base[0]["kl"] > 1e-4, "the parent is not the base"


def test_a_target_for_entropy_raises_it(update):
    _, plain = update()
    _, raised = update(entropy_target=5.0, grpo={"entropy_coef": 0.1})
    assert raised[-1]["entropy"] > plain[-1]["entropy"]


@pytest.mark.parametrize(
    "settings", [{}, {"loss": "grpo"}, {"loss": "dr_grpo"}, {"kl": 0.5}], ids=str
)
def test_rows_sorted_by_length_make_the_same_update(update, settings, monkeypatch):
    """Plain gradient descent, since Adam makes rounding errors of small gradients large."""
    plain = {"grpo": {"optim": "sgd"}, "learning_rate": 1.0, "steps": 1} | settings
    ours, steps = update(**plain)
    whole, at_once = update(**plain, micro_batch=QUESTIONS * KEEP)
    for name in ("_prepare_inputs", "_get_per_token_logps_and_entropies"):
        monkeypatch.delattr(grpo.Trainer, name)
    shuffled, _ = update(**plain, snapshots=1)  # another key of what is done once
    assert furthest(ours, whole) < 1e-4 * moved(ours)
    assert furthest(ours, shuffled) < 1e-4 * moved(ours)
    assert [each["grad_norm"] for each in steps] == pytest.approx(
        [each["grad_norm"] for each in at_once], rel=1e-4
    )


def test_rows_go_through_the_model_with_others_of_their_length(update, monkeypatch):
    shapes = []
    theirs = grpo.GRPOTrainer._get_per_token_logps_and_entropies

    def noted(self, model, ids, mask, *rest, **more):
        shapes.append((ids.numel(), int(mask.sum())))
        return theirs(self, model, ids, mask, *rest, **more)

    monkeypatch.setattr(grpo.GRPOTrainer, "_get_per_token_logps_and_entropies", noted)
    update(steps=1)
    columns, tokens = map(sum, zip(*shapes, strict=True))
    assert tokens / columns > 0.85, (
        "the longest answers have eight times the tokens of the shortest"
    )


def test_the_share_of_uncertain_tokens_is_of_the_whole_step(update):
    """However the step's rows are split: by themselves, the short ones would have their own."""
    plain = {"grpo": {"optim": "sgd"}, "learning_rate": 1.0, "steps": 1, "top_entropy": 0.2}
    ours, _ = update(**plain, micro_batch=2)
    whole, _ = update(**plain, micro_batch=QUESTIONS * KEEP)
    assert furthest(ours, whole) < 1e-4 * moved(ours)


def test_the_distance_from_the_start_is_between_whole_distributions(update, monkeypatch):
    expected = []

    def seen(self, batch):
        ids, mask = (
            torch.cat([batch[f"prompt_{part}"], batch[f"completion_{part}"]], dim=1)[::KEEP]
            for part in ("ids", "mask")
        )
        logits = [self.model(ids, attention_mask=mask).logits]
        with self.model.disable_adapter():
            logits.append(self.model(ids, attention_mask=mask).logits)
        answers = batch["completion_mask"][::KEEP].bool()
        now, start = (
            torch.distributions.Categorical(logits=each[:, -answers.size(1) - 1 : -1][answers])
            for each in logits
        )
        expected.append(float(torch.distributions.kl_divergence(now, start).mean()))
        return theirs(self, batch)

    theirs = grpo.Trainer._kl_to_start
    monkeypatch.setattr(grpo.Trainer, "_kl_to_start", torch.no_grad()(seen))
    _, numbers = update(grpo={"vllm_importance_sampling_correction": True}, learning_rate=1e-2)
    found = [each["kl_to_start"] for each in numbers]
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[-1] > 1e-3


def test_the_distance_is_measured_whether_or_not_answers_are_weighed(update):
    _, numbers = update(learning_rate=1e-2)
    assert numbers[-1]["kl_to_start"] > 0, "the correction is off"


class Faltering(Lines):
    """Raises an error in place of a batch; or brings one that has no finite gradient."""

    def __init__(self, directory, batch, error=None):
        super().__init__(directory)
        self._left, self._error = batch, error

    def rows(self):
        self._left -= 1
        rows = super().rows()
        if self._left:
            return rows
        if self._error:
            raise self._error()
        return [replace(row, reward=1e38 * row.reward) for row in rows]


PLAIN = {
    "questions_per_step": QUESTIONS,
    "keep": KEEP,
    "micro_batch": 4,
    "scale": "none",
    "grpo": {"vllm_importance_sampling_correction": False},
}


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (lambda: torch.OutOfMemoryError(), MemoryError, "out of memory; lower update.micro_batch"),
        (None, UpdateDiverged, "loss or gradient is not finite at step 3"),
        (lambda: TrainingEnded("all was said"), TrainingEnded, "all was said"),
    ],
)
def test_a_step_that_fails_leaves_the_weights_of_those_before_it(
    tmp_path, update, error, raised, says
):
    lines = Faltering(tmp_path / "result", 3, error)
    with pytest.raises(raised, match=says):
        train(lines, UpdateConfig(**PLAIN, learning_rate=1e-3))
    whole, _ = update(steps=2, scale="none")
    assert lines.trained == 2
    assert furthest(lines.directory, whole) < 1e-6


def test_weights_that_are_of_no_use_show_in_the_next_loss(tmp_path):
    with pytest.raises(UpdateDiverged, match="not finite at step 2"):
        train(Lines(tmp_path / "result"), UpdateConfig(**PLAIN, learning_rate=1e30))


def test_the_last_step_is_finished_as_well(update):
    _, numbers = update()
    assert len(numbers) == STEPS


def test_pinned_log_probabilities_are_of_result_base_and_parent(tmp_path, update):
    parent, _ = update()
    lines = Lines(tmp_path / "result")
    settings = UpdateConfig(**PLAIN, learning_rate=1e-2)
    trainer = train(lines, settings, parent=parent, steps=1)
    (pinned,) = trainer.logprobs([Pin(1, (5, 6, 7), 1)], lines.directory)
    assert len(pinned.own) == len(pinned.base) == len(pinned.parent) == 2
    assert len({pinned.own, pinned.base, pinned.parent}) == 3
    broken = tensors.load_file(lines.directory / "adapter_model.safetensors")
    tensors.save_file(
        {name: values * math.nan for name, values in broken.items()},
        lines.directory / "adapter_model.safetensors",
    )
    again = train(Lines(tmp_path / "other"), settings, steps=1)
    with pytest.raises(UpdateDiverged, match="not finite"):
        again.logprobs([Pin(1, (5, 6, 7), 1)], lines.directory)


NOISES = [(0.01, 256), (0.01, 16384), (0.05, 4096)]


def noise(rms, tokens):
    """By how much the trainer's log-probabilities exceed the engine's, (32, tokens). The engine
    drew the answers, and under it the mean of the ratio is 1."""
    drawn = torch.randn(32, tokens, generator=torch.Generator().manual_seed(1))
    return drawn * rms - rms**2 / 2


@pytest.fixture
def step(tmp_path, monkeypatch):
    """What is logged of a step on answers whose log-probabilities differ by so much from the
    trainer's. The model itself is left out."""

    def logps(self, model, ids, mask, kept, **_):
        nothing = sum(weight.sum() for weight in model.parameters() if weight.requires_grad) * 0
        return torch.zeros(len(ids), kept) + nothing, torch.zeros(len(ids), kept), None

    monkeypatch.setattr(grpo.Trainer, "_get_per_token_logps_and_entropies", logps)
    monkeypatch.setattr(grpo.Trainer, "_kl_to_start", lambda self, batch: 0.0)

    def once(differences, **grpo_settings):
        lines = Lines(tmp_path / "result")
        rows = [
            Row([1], [5] * len(row), (-row).tolist(), float(place % 2))
            for place, row in enumerate(differences)
        ]
        monkeypatch.setattr(lines, "rows", lambda: rows)
        settings = UpdateConfig(questions_per_step=4, keep=8, grpo=grpo_settings)
        train(lines, settings, steps=1, max_tokens=differences.size(1))
        return lines.numbers[0]

    return once


@pytest.mark.parametrize(("rms", "tokens"), NOISES)
def test_long_answers_keep_their_weight_under_noise(step, rms, tokens):
    """0.01 to 0.05 nats a token is what others measured between engines and trainers in bf16."""
    found = step(noise(rms, tokens))
    assert found["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=0.01)
    assert found["effective_tokens"] > 0.99
    assert found["effective_sequences"] > 0.99


@pytest.mark.parametrize(("rms", "tokens"), NOISES)
def test_the_effective_sample_size_shows_what_masking_whole_answers_costs(step, rms, tokens):
    """In theory: a whole answer's log ratio is normal, with this spread."""
    spread, most = rms * math.sqrt(tokens), math.log(2)

    def below(deviations):  # statistics.NormalDist has no such small tails
        return math.erfc(-deviations / math.sqrt(2)) / 2

    first = below((most - spread**2 / 2) / spread)
    second = math.exp(spread**2) * below((most - 1.5 * spread**2) / spread)
    found = step(noise(rms, tokens), vllm_importance_sampling_mode="sequence_mask")
    for level in ("effective_tokens", "effective_sequences"):
        assert found[level] == pytest.approx(first**2 / second, abs=0.25)
        assert spread < 3 or found[level] < 0.4, "far below the guard's bound"


def test_answers_of_an_older_policy_count_token_by_token_and_twice_at_most(step):
    """As `update.replay` has them: one that became likelier, one that became less likely."""
    shifted = torch.zeros(32, 500)
    shifted[:8], shifted[8:16] = 1.0, -0.5
    found = step(shifted)
    assert found["sampling/importance_sampling_ratio/max"] == 2
    assert found["sampling/importance_sampling_ratio/min"] == pytest.approx(math.exp(-0.5))
    weights = [2.0, math.exp(-0.5), 1.0, 1.0]
    kish = sum(weights) ** 2 / (4 * sum(weight**2 for weight in weights))
    assert found["effective_sequences"] == pytest.approx(kish, rel=1e-4)


class Stale(Lines):
    """The engine draws a step's samples with the weights before the last step."""

    def __init__(self, directory, known):
        super().__init__(directory)
        self._known, self._drawn = known, None

    def next_batch(self, step, numbers):
        super().next_batch(step, numbers)
        drawn, self._drawn = self._drawn or self._draw(step), self._draw(step)
        return drawn

    def _draw(self, step):
        rows = self.rows()
        pins = [Pin(0, (*row.prompt_ids, *row.completion_ids), len(row.prompt_ids)) for row in rows]
        logprobs = self.trainer._under("default", pins)
        after = step if self._known else None
        return [
            replace(row, logprobs=each, drawn_after=after)
            for row, each in zip(rows, logprobs, strict=True)
        ]


def test_what_a_step_changed_is_no_mismatch(tmp_path):
    settings = UpdateConfig(questions_per_step=QUESTIONS, keep=KEEP, learning_rate=1e-2)
    found = []
    for known in (True, False):
        lines = Stale(tmp_path / f"{known}", known)
        train(lines, settings, steps=4)
        found.append(lines)
    told, untold = ([step["mismatch"] for step in lines.numbers] for lines in found)
    assert max(told) < 1e-5
    assert min(untold[1:]) > 1e-3, "the weights did move"
    assert furthest(*(lines.directory for lines in found)) == 0, "and each step began where it was"


def test_what_no_weight_is_left_of_has_no_effective_size():
    ones, mask = torch.ones(4, 6), torch.ones(4, 6)
    assert grpo.effective(ones, mask) == (1, 1)
    assert grpo.effective(ones * 0, mask) == (0, 0)
    alone = torch.eye(4)[0][:, None]  # as sequence_mask leaves it: (B, 1)
    assert grpo.effective(alone, mask) == pytest.approx((0.25, 0.25))
    mask[0, 1:] = 0
    assert grpo.effective(alone, mask) == pytest.approx((1 / 19, 0.25))
    assert grpo.effective(ones * 3, mask) == pytest.approx((1, 1)), "the scale says nothing"
