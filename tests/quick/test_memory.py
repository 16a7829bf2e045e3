"""The memory estimate: published models' figures, what is warned of, what is refused."""

from __future__ import annotations

import http.server
import json
import re
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from jobs import process
from jobs.run import execute
from serve.cli import doctor, main
from ttrl.config import Config
from ttrl.config.loading import override
from ttrl.demo import model_dir
from ttrl.engine import memory
from ttrl.engine.client import EngineClient, ModelCard
from ttrl.engine.memory import GIB, CannotEstimate, Card, Fit, Model, first_card
from ttrl.store import Store
from ttrl.store.runs import RunState, Trigger
from ttrl.versions import ModelNotFound, find

loads_transformers = pytest.mark.integration
"""It takes seconds."""

QWEN3 = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}
MIXTURE = QWEN3 | {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "tie_word_embeddings": False,
}
GEMMA2 = {
    "model_type": "gemma2",
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "max_position_embeddings": 8192,
}
GEMMA3 = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 896,
    },
}
"""As published: Gemma's leave out what is their class's default."""

QWEN3_SMALL = Model(
    parameters=596_049_920,
    linear=10_092_544 // 16,
    layers=28,
    hidden=1024,
    cached=28 * 2048,
    windowed=0,
    window=0,
    context=40960,
)
QWEN3_8B = Model(
    parameters=8_190_735_360,
    linear=43_646_976 // 16,
    layers=36,
    hidden=4096,
    cached=36 * 2048,
    windowed=0,
    window=0,
    context=40960,
)
LLAMA_8B = Model(
    parameters=8_030_261_248,
    linear=41_943_040 // 16,
    layers=32,
    hidden=4096,
    cached=32 * 2048,
    windowed=0,
    window=0,
    context=131072,
)
MODELS = {
    "t/qwen3-0.6b": QWEN3_SMALL,
    "t/qwen3-8b": QWEN3_8B,
    "t/llama-8b": LLAMA_8B,
    "t/qwen3-32b": replace(QWEN3_8B, parameters=32_762_123_264),
}


def write_config(directory, config):
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    return str(directory)


@pytest.fixture
def known(monkeypatch):
    """Models of which no file is there."""

    def read(name):
        if name not in MODELS:
            raise CannotEstimate(f"{name} is nowhere")
        return MODELS[name]

    monkeypatch.setattr(memory, "read_model", read)


def configured(*flags, **settings):
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    given = {"engine.flags": list(flags), "vote.max_tokens": 1024, "model.name": "t/qwen3-8b"}
    return override(Config(), given | dotted)


def card(gib, free=None):
    return Card("NVIDIA Test", int(gib * GIB), int((gib if free is None else free) * GIB))


def estimated(gib, *flags, free=None, **settings):
    return memory.estimate(configured(*flags, **settings), card(gib, free))


@loads_transformers
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("config", "parameters", "kv_bytes", "lora_rank_16"),
    [
        (QWEN3, 596_049_920, 114_688, 10_092_544),
        (LLAMA, 8_030_261_248, 131_072, 41_943_040),
        (MIXTURE, 30_532_122_624, 98_304, None),
        (GEMMA2, 2_614_341_888, 106_496, 20_766_720),
        (GEMMA3, 4_300_079_472, 139_264, None),
    ],
    ids=["Qwen3-0.6B", "Llama-3.1-8B", "Qwen3-30B-A3B", "gemma-2-2b", "gemma-3-4b"],
)
def test_published_models(tmp_path, config, parameters, kv_bytes, lora_rank_16):
    """What their authors or the hub say they have, from a configuration without any weights."""
    found = memory.figures(write_config(tmp_path / "m", config))
    assert found.parameters == pytest.approx(parameters, rel=0.005)
    assert 2 * (found.cached + found.windowed) == kv_bytes
    assert lora_rank_16 in (None, 16 * found.linear)


@loads_transformers
def test_the_figures_of_the_other_tests(tmp_path):
    assert memory.figures(write_config(tmp_path / "q", QWEN3)) == QWEN3_SMALL
    assert memory.figures(write_config(tmp_path / "l", LLAMA)) == LLAMA_8B


@loads_transformers
def test_layers_with_a_window_cache_no_more_than_that(tmp_path):
    found = memory.figures(write_config(tmp_path / "m", GEMMA2))
    assert found.cached == found.windowed == 13 * 2 * 4 * 256
    assert found.cache(8192) == found.cached * (8192 + 4096)
    assert found.cache(100) == found.cached * 200


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (QWEN3 | {"quantization_config": {"quant_method": "fp8"}}, "quantized"),
        (QWEN3 | {"model_type": "nobody-s"}, "cannot read the configuration"),
    ],
)
@loads_transformers
def test_models_that_cannot_be_estimated(tmp_path, config, why):
    with pytest.raises(CannotEstimate, match=why):
        memory.figures(write_config(tmp_path / "m", config))


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that has one file."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        found = self.path == "/o/m/resolve/main/config.json"
        body = json.dumps(QWEN3).encode() if found else b""
        self.send_response(200 if found else 404)
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


@loads_transformers
@pytest.mark.timeout(300)
def test_a_model_that_is_not_downloaded(tmp_path, monkeypatch):
    """Its configuration is all that is fetched, and it does not stay."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        monkeypatch.setenv("HF_HOME", str(tmp_path))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        assert memory.read_model("o/m") == QWEN3_SMALL
        hub.shutdown()
    assert not list(tmp_path.rglob("config.json"))


def test_a_hub_name_is_looked_up_in_the_local_cache_only(tmp_path, monkeypatch):
    import huggingface_hub as hub

    snapshot = tmp_path / "models--o--m" / "snapshots" / "abc"
    (tmp_path / "models--o--m" / "refs").mkdir(parents=True)
    (tmp_path / "models--o--m" / "refs" / "main").write_text("abc")
    snapshot.parent.mkdir()
    write_config(snapshot, QWEN3)
    real = hub.try_to_load_from_cache
    monkeypatch.setattr(
        hub, "try_to_load_from_cache", lambda name, file: real(name, file, cache_dir=tmp_path)
    )
    assert find("o/m") == snapshot
    with pytest.raises(ModelNotFound, match="not been downloaded"):
        find("o/other")
    with pytest.raises(ModelNotFound, match="neither"):
        find("/no/such/place")
    assert find(str(model_dir())) == model_dir()


@pytest.mark.parametrize(
    ("model", "rows", "length", "settings", "counted"),
    [
        (QWEN3_8B, 8, 3072, {}, 15470),
        (QWEN3_8B, 2, 2560, {}, 3080),
        (QWEN3_8B, 2, 1024, {"update__dtype": "float32"}, 1895),
        (LLAMA_8B, 4, 2048, {}, 4822),
        (QWEN3_SMALL, 16, 1536, {}, 3960),
        (QWEN3_SMALL, 2, 1024, {"update__grpo": {"gradient_checkpointing": False}}, 4616),
    ],
)
def test_activations_are_neither_forgotten_nor_invented(model, rows, length, settings, counted):
    """`counted` are the megabytes that live at the worst moment of forward and backward beside
    weights, LoRA and gradients, with transformers 5.19, PEFT 0.21 and TRL 1.16: the storages of
    all tensors, made under torch's FakeTensorMode."""
    update = configured(update__micro_batch=rows, **settings).update
    found = memory.trainer_memory(model, update, length)
    activations = found[f"activations for {rows} x {length} tokens"]
    assert counted <= activations / 1e6 <= 1.75 * counted


SHARE = "--gpu-memory-utilization="


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("gib", "flags", "settings", "fit"),
    [
        (80, [], {}, Fit.FITS),
        (80, ["--max-model-len", "8192", f"{SHARE}0.5"], {}, Fit.FITS),
        (80, [f"{SHARE}0.38", "--max-model-len=16384"], {}, Fit.FITS),
        (80, ["--max-model-len=8k"], {}, Fit.FITS),
        (80, ["--max-model-len=auto"], {}, Fit.FITS),
        (80, [f"{SHARE}0.6"], {}, Fit.UNLIKELY),
        (80, ["--gpu_memory_utilization", "0.1"], {}, Fit.UNLIKELY),
        (80, [f"{SHARE}0.92"], {}, Fit.UNLIKELY),
        (80, [f"{SHARE}0.5"], {"update__micro_batch": 128}, Fit.UNLIKELY),
        (56, [], {}, Fit.UNLIKELY),
        (24, [], {}, Fit.IMPOSSIBLE),
        (44, [], {"update__dtype": "float32"}, Fit.IMPOSSIBLE),
        (44, ["--dtype", "float32"], {}, Fit.IMPOSSIBLE),
    ],
)
def test_what_fits(gib, flags, settings, fit):
    found = estimated(gib, *flags, **settings)
    assert found.fit is fit, found.words
    assert ("These help: " in found.words) is (fit is not Fit.FITS)
    assert ("missing" in found.words) is (fit is not Fit.FITS)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("gib", [24, 40, 80, 140])
def test_the_share_is_the_largest_that_leaves_room_for_training(name, gib):
    found = estimated(gib, model__name=name)
    assert estimated(gib, f"{SHARE}{found.share}", model__name=name).words == found.words
    if found.fit is Fit.FITS and found.share < memory.UTILIZATION:
        more = estimated(gib, f"{SHARE}{found.share + 0.01}", model__name=name)
        assert more.fit is Fit.UNLIKELY


@pytest.mark.usefixtures("known")
def test_what_training_costs_the_users_is_said():
    def cache(found):
        return int(re.search(r"KV cache for (\d+) tokens", found.words)[1])

    found, alone = estimated(80), estimated(80, f"{SHARE}0.92")
    assert found.words.endswith(
        f"The engine's KV cache has {cache(found)} tokens at all times; without training it would "
        f"have {cache(alone)}."
    )
    halved = estimated(80, f"{SHARE}0.92", "--kv-cache-dtype=fp8_e5m2")
    assert cache(halved) == pytest.approx(2 * cache(alone), abs=1)


@pytest.mark.usefixtures("known")
def test_somebody_elses_engine_leaves_what_is_free():
    url = {"engine__url": "http://127.0.0.1:9"}
    assert estimated(80, free=45, **url).fit is Fit.FITS
    found = estimated(80, free=25, **url)
    assert found.fit is Fit.UNLIKELY
    assert "KV cache" not in found.words
    assert estimated(80, free=8, **url).fit is Fit.IMPOSSIBLE


def test_the_batch_is_the_one_that_the_trainer_takes():
    update = configured(update__questions_per_step=3, update__keep=5, update__micro_batch=8).update
    assert memory.rows_at_once(update) == 5


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--tensor-parallel-size", "2"], "--tensor-parallel-size"),
        (["-tp=2"], "-tp"),
        (["--quantization", "fp8"], "--quantization"),
        (["--max-model-len", "long"], "max-model-len"),
    ],
)
def test_flags_that_cannot_be_estimated(flags, why):
    found = estimated(80, *flags)
    assert found.fit is Fit.UNKNOWN
    assert why in found.words


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


@pytest.mark.usefixtures("on_a_card", "known")
def test_what_is_refused_and_what_is_not(caplog):
    too_large = {"model__name": "t/qwen3-32b"}
    with pytest.raises(memory.MemoryRefused, match=r"(?s)cannot fit.*memory_plan=false"):
        memory.fit_to_card(configured(**too_large))
    for passing in (
        configured(**too_large, engine__memory_plan=False),
        configured(engine__kind="embedded"),
        configured(f"{SHARE}0.5", "--max-model-len=8192"),
    ):
        assert memory.fit_to_card(passing) == passing
    assert not caplog.records
    for doubtful, why in (
        (configured(f"{SHARE}0.6"), "likely do not fit"),
        (configured("--kv-cache-memory-bytes=20G"), "Cannot estimate"),
    ):
        assert memory.fit_to_card(doubtful) == doubtful
        (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
        assert why in warning.getMessage()
        caplog.clear()


@pytest.mark.usefixtures("on_a_card", "known")
def test_the_share_is_chosen_where_nobody_gave_one(caplog):
    config = configured("--max-model-len=8192")
    flags = memory.fit_to_card(config).engine.flags
    assert flags[1:] == config.engine.flags
    share = float(flags[0].removeprefix(SHARE))
    assert 0.4 < share < 0.75
    assert memory.estimate(configured(*flags), CARD).fit is Fit.FITS
    more = configured(f"{SHARE}{share + 0.01}", "--max-model-len=8192")
    assert memory.estimate(more, CARD).fit is Fit.UNLIKELY
    flags = memory.fit_to_card(configured(model__name="nobody/nothing-at-all")).engine.flags
    assert flags == (f"{SHARE}0.6",)
    assert "nobody/nothing-at-all is nowhere" in caplog.text


@pytest.mark.usefixtures("known")
def test_a_run_looks_at_what_somebody_elses_engine_leaves(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", driver(free=10))
    config = configured(state_dir=str(tmp_path), engine__url="http://127.0.0.1:9")
    with Store.open(tmp_path) as store, EngineClient("http://127.0.0.1:9") as client:
        run = store.runs.create(Trigger.OPERATOR, {})
        assert execute(config, store, client, run.id) is RunState.FAILED
        reason = store.runs.get(run.id).reason
    assert "the trainer and what is already running cannot fit on NVIDIA Stand-in" in reason


@pytest.mark.usefixtures("on_a_card", "known")
@pytest.mark.parametrize(
    ("micro_batch", "given", "context", "longest"),
    [
        (4, None, 4096, 2048),
        (4, None, 40960, 8192),
        (4, None, None, 8192),
        (16, None, 40960, 2048),
        (16, None, 1500, 750),
        (4, 3000, 4096, 3000),
    ],
)
def test_an_answer_fits_into_memory_and_into_the_engines_context(
    micro_batch, given, context, longest
):
    """Another's engine may serve less of the context than the model has: vLLM refuses an answer
    that is longer, and with it every question."""

    class Engine:
        def base_model(self):
            return ModelCard("m", None, None, context)

    config = configured(
        engine__url="http://127.0.0.1:9",
        update__micro_batch=micro_batch,
        vote__max_tokens=given,
    )
    assert process.sized(config, Engine()).vote.max_tokens == longest


def ttrl(*words):
    return CliRunner().invoke(main, words, env={"COLUMNS": "200"})


@pytest.mark.usefixtures("on_a_card", "known")
def test_serving_is_refused_before_anything_starts(tmp_path):
    state = str(tmp_path / "s")
    done = ttrl("serve", "--model", "t/qwen3-32b", "--state-dir", state)
    assert done.exit_code == 2
    assert "engine and trainer cannot fit" in done.output
    assert not (tmp_path / "s").exists()


@pytest.mark.usefixtures("known")
def test_config_check_estimates_for_another_card():
    words = ["config", "check", "--set", "model.name=t/qwen3-8b", "--card-gib"]
    done = ttrl(*words, "80", "--set", "vote.max_tokens=1024")
    assert done.exit_code == 0, done.output
    assert "KV cache for " in done.output
    assert done.output.endswith("The configuration is valid.\n")
    done = ttrl(*words, "48")
    assert done.exit_code == 0
    assert done.output.startswith("Warning: By estimate, engine and trainer likely do not fit")
    done = ttrl(*words, "24")
    assert done.exit_code == 2
    assert "missing" in done.output
    done = ttrl(*words, "24", "--set", "engine.memory_plan=false")
    assert done.exit_code == 0
    done = ttrl(*words, "24", "--set", "engine.kind=embedded")
    assert "GiB" not in done.output


@pytest.mark.usefixtures("known")
def test_config_check_without_a_model_or_its_files():
    assert "GiB" not in ttrl("config", "check", "--card-gib", "80").output
    done = ttrl("config", "check", "--card-gib", "80", "--set", "model.name=nobody/nothing-at-all")
    assert done.exit_code == 0
    assert "Cannot estimate" in done.output


@pytest.mark.usefixtures("on_a_card", "known")
@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({}, ["ok"]),
        ({"engine__flags": [f"{SHARE}0.6"]}, ["warning"]),
        ({"model__name": "t/qwen3-32b"}, ["broken"]),
        ({"model__name": "nobody/nothing-at-all"}, ["note"]),
        ({"engine__kind": "embedded"}, []),
        ({"model__name": ""}, []),
    ],
)
def test_doctor_says_whether_it_fits(settings, outcome):
    assert [each.outcome for each in doctor.gpu_memory(configured(**settings))] == outcome


@pytest.mark.usefixtures("on_a_card", "known")
@pytest.mark.parametrize(
    ("micro_batch", "length", "longest"),
    [(1, 16384, 8192), (4, 4096, 2048), (8, 2048, 1024), (8, 40960, 4096), (16, 40960, 1024)],
)
def test_samples_are_as_long_as_there_is_room_for(micro_batch, length, longest):
    """Halved from what the context leaves, until trainer and engine fit."""
    config = configured(
        f"--max-model-len={length}", vote__max_tokens=None, update__micro_batch=micro_batch
    )
    assert memory.fit_to_card(config).vote.max_tokens == longest
    assert memory.estimate(config, CARD).fit is Fit.FITS
