"""The memory plan: known models' numbers, what is refused, and what is proposed instead."""

from __future__ import annotations

import json
import struct
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as some

from jobs import adapt
from serve.cli import main
from ttrl.config import Config
from ttrl.demo import model_dir
from ttrl.engine.card import first_card
from ttrl.engine.client import EngineClient
from ttrl.memory import check
from ttrl.memory.asked import GIB, Card, ask, rows_at_once
from ttrl.memory.judge import Change, Outcome, apply, judge
from ttrl.memory.plan import FRAGMENTATION, cache_bytes, plan, trainer_plan
from ttrl.memory.shape import CannotPlan, find, read
from ttrl.settings import override
from ttrl.store import Store
from ttrl.store.runs import RunState, Trigger

QWEN3_8B = {
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "sliding_window": None,
    "tie_word_embeddings": False,
}
QWEN3_SMALL = QWEN3_8B | {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "tie_word_embeddings": True,
}
LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
    "tie_word_embeddings": False,
}


def tensors_of(config):
    """The tensors that a Llama or Qwen3 checkpoint of this configuration holds."""
    hidden, inner, words = (
        config[key] for key in ("hidden_size", "intermediate_size", "vocab_size")
    )
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = (
        head * config["num_attention_heads"],
        head * config["num_key_value_heads"],
    )
    yield "model.embed_tokens.weight", [words, hidden]
    yield "lm_head.weight", [words, hidden]  # Qwen3-0.6B's file has it although it is tied
    yield "model.norm.weight", [hidden]
    for layer in range(config["num_hidden_layers"]):
        parts = {
            "self_attn.q_proj": [queries, hidden],
            "self_attn.k_proj": [keys, hidden],
            "self_attn.v_proj": [keys, hidden],
            "self_attn.o_proj": [hidden, queries],
            "mlp.gate_proj": [inner, hidden],
            "mlp.up_proj": [inner, hidden],
            "mlp.down_proj": [hidden, inner],
            "input_layernorm": [hidden],
            "post_attention_layernorm": [hidden],
        }
        if "head_dim" in config:
            parts |= {"self_attn.q_norm": [head], "self_attn.k_norm": [head]}
        for part, shape in parts.items():
            yield f"model.layers.{layer}.{part}.weight", shape


def write_weights(path, tensors):
    """A safetensors file without its data."""
    header = {name: {"dtype": "BF16", "shape": shape} for name, shape in tensors}
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def write_model(directory, config):
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    write_weights(directory / "model.safetensors", tensors_of(config))
    return directory


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    room = tmp_path_factory.mktemp("models")
    known = {"qwen3-8b": QWEN3_8B, "qwen3-0.6b": QWEN3_SMALL, "llama-8b": LLAMA_8B}
    return {name: write_model(room / name, config) for name, config in known.items()}


@pytest.fixture(scope="session")
def shapes(models):
    return {name: read(path) for name, path in models.items()}


def configured(*flags, **settings):
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    return override(Config(), {"engine.flags": list(flags)} | dotted)


def card(gib, free=None):
    return Card("NVIDIA Test", int(gib * GIB), int((gib if free is None else free) * GIB))


def plan_for(shape, gib, *flags, free=None, ours=True, **settings):
    where = card(gib, free)
    return plan(where, shape, ask(configured(*flags, **settings), shape, where), ours=ours)


@pytest.mark.parametrize(
    ("name", "parameters", "kv_per_token", "lora_rank_16"),
    [
        ("llama-8b", 8_030_261_248, 131072, 41_943_040),
        ("qwen3-8b", 8_190_735_360, 147456, 43_646_976),
        ("qwen3-0.6b", 596_049_920, 114688, 10_092_544),
    ],
)
def test_known_models(shapes, name, parameters, kv_per_token, lora_rank_16):
    shape = shapes[name]
    asked = ask(Config(), shape, card(80))
    assert shape.parameters == parameters
    assert cache_bytes(shape, asked, 1) == kv_per_token
    assert asked.lora_parameters == lora_rank_16
    assert trainer_plan(shape, asked).weights == 2 * parameters


def test_the_demo_model_is_read_like_any_other():
    shape = read(model_dir())
    assert 300_000 < shape.parameters < 500_000
    assert (shape.layers, shape.hidden, shape.longest) == (3, 96, 512)


@pytest.mark.parametrize(
    ("name", "rows", "prompt", "completion", "settings", "counted"),
    [
        ("qwen3-8b", 8, 2048, 1024, {}, 15470),
        ("qwen3-8b", 2, 512, 2048, {}, 3080),
        ("qwen3-8b", 2, 512, 512, {"update__dtype": "float32"}, 1895),
        ("llama-8b", 4, 1024, 1024, {}, 4822),
        ("qwen3-0.6b", 16, 512, 1024, {}, 3960),
        ("qwen3-0.6b", 2, 512, 512, {"update__grpo": {"gradient_checkpointing": False}}, 4616),
    ],
)
def test_activations_are_neither_forgotten_nor_invented(
    shapes, name, rows, prompt, completion, settings, counted
):
    """`counted` are the megabytes that live at the worst moment of forward and backward beside
    weights, LoRA and gradients, with transformers 5.19, PEFT 0.21 and TRL 1.16: the storages of
    all tensors, made under torch's FakeTensorMode."""
    found = plan_for(shapes[name], 80, **settings)
    found = found.but(micro_batch=rows, prompt=prompt, completion=completion)
    reckoned = (found.trainer.activations + found.trainer.head) / FRAGMENTATION / 1e6
    assert counted <= reckoned <= 1.35 * counted


@pytest.mark.parametrize(
    ("gib", "flags", "settings", "outcome"),
    [
        (80, ["--max-model-len", "8192", "--gpu-memory-utilization=0.55"], {}, Outcome.FITS),
        (80, ["--max-model-len=8192"], {}, Outcome.TRAINER_TOO_SMALL),
        (80, ["--gpu_memory_utilization", "0.2"], {}, Outcome.ENGINE_TOO_SMALL),
        (24, ["--max-model-len=8192"], {}, Outcome.TRAINER_TOO_SMALL),
        (12, [], {}, Outcome.ENGINE_TOO_SMALL),
        (80, ["--kv-cache-memory-bytes", "8G", "--max-model-len=8K"], {}, Outcome.FITS),
        (80, ["--gpu-memory-utilization=0.55"], {"update__micro_batch": 128}, "trainer_too_small"),
        (80, ["--gpu-memory-utilization=0.5"], {"update__dtype": "float32"}, "trainer_too_small"),
    ],
)
def test_outcomes(shapes, gib, flags, settings, outcome):
    fit = judge(plan_for(shapes["qwen3-8b"], gib, *flags, **settings))
    assert fit.outcome == outcome, str(fit)
    assert "GiB" in fit.sentence


def test_the_greatest_length_decides_unless_vllm_may_choose(shapes):
    flags = ["--gpu-memory-utilization", "0.38"]
    fit = judge(plan_for(shapes["llama-8b"], 80, *flags))
    assert fit.outcome is Outcome.ENGINE_TOO_SMALL
    assert "131072 tokens needs 16.0" in fit.sentence
    fit = judge(plan_for(shapes["llama-8b"], 80, *flags, "--max-model-len", "auto"))
    assert fit.outcome is Outcome.FITS


def test_a_shorter_length_is_proposed_when_nothing_else_helps(shapes):
    fit = judge(plan_for(shapes["llama-8b"], 44))
    (change,) = fit.changes
    assert change.max_model_len is not None
    assert f"--max-model-len {change.max_model_len}" in fit.sentence


def test_no_setting_helps(shapes):
    fit = judge(plan_for(shapes["qwen3-8b"], 16))
    assert fit.changes == ()
    assert "larger card" in fit.sentence


def test_one_setting_is_proposed_where_one_is_enough(shapes):
    fit = judge(
        plan_for(shapes["qwen3-8b"], 80, "--gpu-memory-utilization=0.6", update__micro_batch=16)
    )
    assert [change.micro_batch is None for change in fit.changes] == [True, False]
    assert [change.utilization is None for change in fit.changes] == [False, True]
    assert "; or update.micro_batch=4" in fit.sentence


def test_somebody_elses_engine_leaves_what_is_free(shapes):
    shape = shapes["qwen3-8b"]
    assert judge(plan_for(shape, 80, free=40, ours=False)).outcome is Outcome.FITS
    fit = judge(plan_for(shape, 80, free=25, ours=False))
    assert fit.outcome is Outcome.TRAINER_TOO_SMALL
    assert str(fit.changes[0]) == "update.micro_batch=4"
    assert "must leave more" in judge(plan_for(shape, 80, free=8, ours=False)).sentence


def test_a_card_in_use_has_no_room_for_the_engine(shapes):
    fit = judge(plan_for(shapes["qwen3-0.6b"], 80, free=20))
    assert fit.outcome is Outcome.ENGINE_TOO_SMALL
    assert fit.changes[0].utilization is not None


SETTINGS = {
    "name": some.sampled_from(["qwen3-8b", "qwen3-0.6b", "llama-8b"]),
    "gib": some.floats(6, 200),
    "share": some.integers(5, 98),
    "micro_batch": some.integers(1, 128),
    "length": some.sampled_from(["1024", "8192", "40k", "auto"]),
    "rank": some.sampled_from([8, 64]),
    "ours": some.booleans(),
}


@given(**SETTINGS)
def test_what_is_proposed_fits(shapes, name, gib, share, micro_batch, length, rank, ours):
    flags = [f"--gpu-memory-utilization=0.{share:02}", "--max-model-len", length]
    settings = {"update__micro_batch": micro_batch, "update__lora_rank": rank}
    found = plan_for(shapes[name], gib, *flags, ours=ours, **settings)
    fit = judge(found)
    assert (fit.outcome is Outcome.FITS) <= (found.left >= 0 and not fit.changes)
    for change in fit.changes:
        assert judge(apply(found, change)).outcome is Outcome.FITS
        assert change != Change()


@given(**SETTINGS)
def test_the_proposed_settings_fit_when_they_are_set(
    shapes, name, gib, share, micro_batch, length, rank, ours
):
    """Not only in the plan: the settings, written down as the sentence says, are judged to fit."""
    flags = [f"--gpu-memory-utilization=0.{share:02}", "--max-model-len", length]
    settings = {"update__micro_batch": micro_batch, "update__lora_rank": rank}
    for change in judge(plan_for(shapes[name], gib, *flags, ours=ours, **settings)).changes:
        if change.utilization is not None:
            flags.append(f"--gpu-memory-utilization={change.utilization}")
        if change.max_model_len is not None:
            flags += ["--max-model-len", str(change.max_model_len)]
        again = settings | {"update__micro_batch": change.micro_batch or micro_batch}
        fit = judge(plan_for(shapes[name], gib, *flags, ours=ours, **again))
        assert fit.outcome is Outcome.FITS, str(fit)
        flags = flags[:3]


@given(
    less=some.integers(1, 127),
    more=some.integers(1, 64),
    tokens=some.integers(1, 4000),
    name=SETTINGS["name"],
)
def test_more_never_needs_less(shapes, less, more, tokens, name):
    def needed(**settings):
        return plan_for(shapes[name], 80, **settings).trainer.total

    assert needed(update__micro_batch=less) <= needed(update__micro_batch=less + more)
    assert needed(vote__max_tokens=tokens) <= needed(vote__max_tokens=tokens + more)
    assert needed() < needed(update__lora_rank=64)
    assert needed() < needed(update__kl=0.1)
    assert needed() < needed(update__dtype="float32")
    assert needed() < needed(update__grpo={"gradient_checkpointing": False})


def test_the_batch_is_the_one_that_the_trainer_takes():
    update = configured(update__questions_per_step=3, update__keep=5, update__micro_batch=8).update
    assert rows_at_once(update) == 5


def test_targets_are_matched_as_peft_does(shapes):
    def parameters(targets):
        return plan_for(
            shapes["llama-8b"], 80, update__target_modules=targets
        ).asked.lora_parameters

    assert parameters(("q_proj",)) == 16 * 32 * 8192
    assert parameters(r".*\.q_proj") == parameters(("q_proj",))
    with pytest.raises(CannotPlan, match="no pattern"):
        parameters("(")


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--tensor-parallel-size", "2"], "several cards"),
        (["-tp=2"], "several cards"),
        (["--quantization", "fp8"], "--quantization"),
        (["--kv-cache-dtype=nvfp4"], "nvfp4"),
        (["--max-model-len", "long"], "no number"),
        (["--gpu-memory-utilization", "2"], "no share"),
    ],
)
def test_flags_that_cannot_be_reckoned_with(shapes, flags, why):
    with pytest.raises(CannotPlan, match=why):
        plan_for(shapes["qwen3-8b"], 80, *flags)


def test_flags_that_can(shapes):
    shape = shapes["qwen3-8b"]
    given = ["--tensor-parallel-size", "1", "--kv-cache-dtype", "fp8", "--enforce-eager"]
    eager = plan_for(shape, 80, *given, "--max_model_len=4k", "--max-model-len", "8K").asked
    assert (eager.max_model_len, eager.graphs, eager.cache_bytes_per_value) == (8192, False, 1)
    assert plan_for(shape, 80, "--dtype", "float32").asked.engine_bytes_per_value == 4


def test_layers_with_a_window_cache_no_more_than_that(tmp_path, shapes):
    kinds = ["sliding_attention"] * 30 + ["full_attention"] * 6
    sliding = QWEN3_8B | {"layer_types": kinds, "sliding_window": 1024}
    shape = read(write_model(tmp_path / "m", sliding))
    asked = ask(Config(), shape, card(24))
    whole = cache_bytes(shapes["qwen3-8b"], asked, 40960)
    assert cache_bytes(shape, asked, 40960) == whole // 36 * 6 + (whole // 36 * 30) * 3072 // 40960
    assert cache_bytes(shape, asked, 100) == cache_bytes(shapes["qwen3-8b"], asked, 100)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"quantization_config": {}}, "quantised"),
        ({"hidden_size": None}, "does not say hidden_size"),
        ({"layer_types": ["linear_attention"]}, "linear_attention"),
    ],
)
def test_models_that_cannot_be_reckoned_with(tmp_path, changes, why):
    directory = write_model(tmp_path / "m", QWEN3_8B)
    (directory / "config.json").write_text(json.dumps(QWEN3_8B | changes))
    with pytest.raises(CannotPlan, match=why):
        read(directory)


def test_damaged_and_missing_weights(tmp_path):
    directory = write_model(tmp_path / "m", QWEN3_8B)
    for rubbish in (b"", b"\xff" * 20, struct.pack("<Q", 2) + b"[]"):
        (directory / "model.safetensors").write_bytes(rubbish)
        with pytest.raises(CannotPlan, match="no safetensors file"):
            read(directory)
    (directory / "model.safetensors").unlink()
    with pytest.raises(CannotPlan, match="is not in"):
        read(directory)


def test_an_index_says_which_files_count(tmp_path):
    directory = write_model(tmp_path / "m", QWEN3_SMALL)
    (directory / "model.safetensors").rename(directory / "one.safetensors")
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    assert read(directory).parameters == 596_049_920
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    with pytest.raises(CannotPlan, match=r"two\.safetensors"):
        read(directory)


def test_a_tokenizer_may_shorten_and_rope_may_lengthen(tmp_path):
    directory = write_model(
        tmp_path / "m", QWEN3_8B | {"rope_scaling": {"type": "linear", "factor": 2.0}}
    )
    assert read(directory).longest == 81920
    (directory / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 2048}))
    assert read(directory).longest == 4096


def test_a_hub_name_is_looked_up_in_the_local_cache_only(tmp_path, monkeypatch, models):
    hub = pytest.importorskip("huggingface_hub")
    snapshot = tmp_path / "models--o--m" / "snapshots" / "abc"
    (tmp_path / "models--o--m" / "refs").mkdir(parents=True)
    (tmp_path / "models--o--m" / "refs" / "main").write_text("abc")
    snapshot.parent.mkdir()
    write_model(snapshot, QWEN3_8B)
    real = hub.try_to_load_from_cache
    monkeypatch.setattr(
        hub, "try_to_load_from_cache", lambda name, file: real(name, file, cache_dir=tmp_path)
    )
    assert find("o/m") == snapshot
    with pytest.raises(CannotPlan, match="not been downloaded"):
        find("o/other")
    with pytest.raises(CannotPlan, match="neither"):
        find("/no/such/place")
    assert find(str(models["qwen3-8b"])) == models["qwen3-8b"]


class NVMLError(Exception):
    """As the library's."""


CARD = Card("NVIDIA Stand-in", 80 * GIB, 79 * GIB)


def driver(total=80, free=79, fails=()):
    """A stand-in for NVIDIA's driver."""

    def answer(name, value):
        def call(*_):
            if name in fails:
                raise NVMLError(name)
            return value

        return call

    memory = SimpleNamespace(total=total * GIB, free=free * GIB)
    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=answer("init", None),
        nvmlShutdown=answer("shutdown", None),
        nvmlDeviceGetHandleByIndex=answer("index", 0),
        nvmlDeviceGetHandleByUUID=answer("uuid", 0),
        nvmlDeviceGetName=answer("name", "NVIDIA Stand-in"),
        nvmlDeviceGetMemoryInfo=answer("memory", memory),
    )


@pytest.mark.parametrize(
    ("fails", "visible", "found"),
    [
        ((), None, True),
        ((), "3,1", True),
        ((), "GPU-1234", True),
        ((), "", False),
        ((), "-1", False),
        (("init",), None, False),
        (("memory",), None, False),
        (("index",), "GPU-1234", True),
    ],
)
def test_the_card_is_asked(monkeypatch, fails, visible, found):
    monkeypatch.setitem(sys.modules, "pynvml", driver(fails=fails))
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert first_card(environ) == (CARD if found else None)


def test_without_the_library_there_is_no_card(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert first_card({}) is None


@pytest.fixture
def on_a_card(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", driver())


@pytest.mark.usefixtures("on_a_card")
def test_what_is_refused_and_what_is_not(models, caplog):
    name = {"model__name": str(models["qwen3-8b"])}
    greedy = "--gpu-memory-utilization=0.92"
    with pytest.raises(check.MemoryRefused, match=r"(?s)What would fit: .*memory_plan=false"):
        check.fit_to_card(configured(greedy, **name))
    with pytest.raises(check.MemoryRefused, match="no room for the trainer"):
        check.fit_to_card(configured(update__micro_batch=128, update__dtype="float32", **name))
    for passing in (
        configured(greedy, engine__memory_plan=False, **name),
        configured(engine__kind="embedded", **name),
        configured("--gpu-memory-utilization=0.5", "--max-model-len=8192", **name),
        configured("--kv-cache-memory-bytes=20G", **name),
    ):
        assert check.fit_to_card(passing) == passing
    with caplog.at_level("INFO"):
        check.fit_to_card(configured("--gpu-memory-utilization=0.5", **name))
    assert "There is room for engine" in caplog.text


@pytest.mark.usefixtures("on_a_card")
def test_the_share_is_chosen_where_nobody_gave_one(models, caplog):
    config = configured("--max-model-len=8192", model__name=str(models["qwen3-8b"]))
    flags = check.fit_to_card(config).engine.flags
    assert flags[1:] == config.engine.flags
    share = float(flags[0].removeprefix("--gpu-memory-utilization="))
    assert 0.4 < share < 0.75
    assert check.planned(configured(*flags, model__name=config.model.name), CARD).outcome == "fits"
    more = f"--gpu-memory-utilization={share + 0.01}"
    assert check.planned(configured(more, model__name=config.model.name), CARD).outcome != "fits"
    with caplog.at_level("INFO"):
        flags = check.fit_to_card(configured(model__name="nobody/nothing-at-all")).engine.flags
    assert flags == ("--gpu-memory-utilization=0.6",)
    assert "cannot be told" in caplog.text


@pytest.mark.usefixtures("on_a_card")
def test_a_run_looks_at_what_somebody_elses_engine_leaves(models, tmp_path):
    config = configured(
        state_dir=str(tmp_path),
        model__name=str(models["qwen3-8b"]),
        engine__url="http://127.0.0.1:9",
        update__micro_batch=128,
    )
    with Store.open(tmp_path) as store, EngineClient("http://127.0.0.1:9") as client:
        run = store.runs.create(Trigger.OPERATOR, {})
        assert adapt.run(config, store, client, run.id) is RunState.FAILED
        reason = store.runs.get(run.id).reason
    assert reason.startswith("There is no room for the trainer in what is free on NVIDIA Stand-in")


def ttrl(*words):
    return CliRunner().invoke(main, words, env={"COLUMNS": "200"})


@pytest.mark.usefixtures("on_a_card")
def test_serving_is_refused_before_anything_starts(models, tmp_path):
    model, state = str(models["qwen3-8b"]), str(tmp_path / "s")
    greedy = ["--", "--gpu-memory-utilization", "0.92"]
    done = ttrl("serve", "--model", model, "--state-dir", state, *greedy)
    assert done.exit_code == 2
    assert "There is no room for the trainer beside the engine" in done.output
    assert not (tmp_path / "s").exists()


def test_config_check_plans_for_another_card(models):
    words = ["config", "check", "--set", f"model.name={models['qwen3-8b']}", "--card-gib"]
    done = ttrl(*words, "80", "--set", "engine.flags=['--gpu-memory-utilization=0.55']")
    assert done.exit_code == 0, done.output
    assert "KV cache, " in done.output
    assert "The configuration is good." in done.output
    done = ttrl(*words, "24")
    assert done.exit_code == 2
    assert "missing" in done.output
    done = ttrl(*words, "24", "--set", "engine.memory_plan=false")
    assert done.exit_code == 0
    done = ttrl(*words, "24", "--set", "engine.kind=embedded")
    assert "GiB" not in done.output


def test_config_check_without_a_model_or_its_files():
    assert "GiB" not in ttrl("config", "check", "--card-gib", "80").output
    done = ttrl("config", "check", "--card-gib", "80", "--set", "model.name=nobody/nothing-at-all")
    assert done.exit_code == 0
    assert "cannot be told" in done.output
