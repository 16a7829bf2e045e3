"""YAML file < environment < credentials < command line, and every mistake has its sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ttrl.config import Config
from ttrl.config.loading import (
    RECIPES,
    SECTIONS,
    ConfigError,
    Resolved,
    Source,
    known_paths,
    load,
    override,
    recipes,
    settings,
    template,
)

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("**/*.yaml"))
DOCS = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "ttrl.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path):
    assert load(path, environ={}).config.served_name


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_setting_that_the_documentation_names_exists(path):
    sections = "|".join(sorted(SECTIONS))
    named = re.findall(rf"`((?:{sections})\.[a-z_]+)`", path.read_text())
    assert set(named) - {"store.sqlite"} <= set(known_paths())


def test_there_are_shipped_configurations():
    assert {path.name for path in CONFIGS} >= {"demo.yaml", "gpu.yaml", "external.yaml"}


def test_later_layers_win_and_each_value_knows_its_source(file):
    path = file("gateway: {port: 1, host: 127.0.0.2}\nupdate: {steps: 7}\n")
    found = load(
        path,
        environ={"TTRL_GATEWAY__PORT": "2", "TTRL_UPDATE__KEEP": "4", "PATH": "/bin"},
        overrides={"gateway.port": 3},
    )
    assert (found.config.gateway.port, found.config.gateway.host) == (3, "127.0.0.2")
    sources = {path: source for path, _, source in found.rows()}
    assert sources["gateway.port"] is Source.COMMAND_LINE
    assert sources["gateway.host"] is Source.FILE
    assert sources["update.keep"] is Source.ENVIRONMENT
    assert sources["update.seed"] is Source.DEFAULT
    assert set(sources) == set(known_paths())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gatway: {port: 1}", "gatway: unknown setting; did you mean gateway?"),
        ("gateway: {prot: 1}", "did you mean gateway.port?"),
        ("update: {stps: 1}", "did you mean update.steps?"),
        ("gateway: {port: seven}", "gateway.port: Input should be a valid integer"),
        ("engine: {url: 127.0.0.1:8001}", "such as http://127.0.0.1:8001"),
        ("engine: {url: 'http://host:99999'}", "such as http://127.0.0.1:8001"),
        ("engine: {url: 'http://me:secret@host'}", "set engine.api_key"),
        ("engine: {kind: embedded, flags: [--x]}", "here it starts none"),
        ("engine: {flags: --x}", r"such as \[a, b\]"),
        ("engine: {flags: [--api_key=x]}", "set engine.api_key"),
        ("gateway: {host: 0.0.0.0}", "reach needs API keys.* `ttrl keys add NAME`"),
        ("gateway: {host: '::'}", "needs API keys"),
        ("gateway: {host: example.org}", "needs API keys"),
        ("gateway: {max_connections: 9, max_requests: 9}", r"\(9\) must be more than"),
        ("gateway: {stall: 0s}", "gateway.stall"),
        ("gateway: {port: 8090}", "gateway.port and admin.port are both 8090"),
        ("gateway: {routes: [/v1/load_lora_adapter]}", "/v1/load_lora_adapter cannot be forwarded"),
        ("gateway: {routes: [v1/responses]}", "v1/responses cannot be forwarded"),
        ("record: {only_keys: [sk-abc]}", "record.only_keys.0: String should match"),
        ("schedule: {timezone: Mars/Base}", "Mars/Base"),
        ("schedule: {every: soon}", '"15m"'),
        ("schedule: {every: 9999999999d}", "less than a million years"),
        ("schedule: {windows: [night]}", "22:00-06:00"),
        ("update: {grpo: {temperature: 2}}", "cannot set temperature in update.grpo"),
        ("update: {keep: 64}", r"update.keep \(64\) is more than vote.samples \(32\)"),
        ("update: {lora_rank: 17}", "update.lora_rank"),
        ("vote: {rewards: {majorty: 1}}", "did you mean 'majority'?"),
        ("vote: {rewards: {majority: .nan}}", "vote.rewards.majority"),
        ("vote: {rewards: {majority: 0}}", "weight other than 0"),
        (
            "vote: {rewards: {foo: 1}}",
            "unknown reward 'foo'; built-in rewards: majority, .*module:f",
        ),
        ("vote: {floor: 0.9, ceiling: 0.5}", r"floor \(0.9\) is above vote.ceiling \(0.5\)"),
        ("- a list", "has no settings"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_mistakes_in_the_file_are_named(file, text, message):
    with pytest.raises(ConfigError, match=message):
        load(file(text), environ={})


def test_a_gateway_with_keys_may_listen_anywhere(file):
    found = load(file("gateway: {host: 0.0.0.0, keys: keys.yaml}"), environ={}).config.gateway
    assert found.keys == Path.cwd() / "keys.yaml"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load(tmp_path / "nowhere.yaml")


@pytest.fixture
def credentials(tmp_path):
    """A directory of secrets, and the environment that names it."""
    (tmp_path / "secrets").mkdir()
    return tmp_path / "secrets", {"CREDENTIALS_DIRECTORY": str(tmp_path / "secrets")}


def test_credentials_are_text_to_the_letter_between_environment_and_command_line(credentials):
    directory, environ = credentials
    (directory / "TTRL_ADMIN__KEY").write_text("01234567890123456789\n")
    (directory / "TTRL_ENGINE__API_KEY").write_text(" no: [yaml\n")
    (directory / "TTRL_STORE__URL").write_text("postgresql://other")
    (directory / "hub-token").write_bytes(b"\xff")
    environ |= {"TTRL_ADMIN__KEY": "from the environment"}
    found = load(environ=environ, overrides={"store.url": "postgresql://me@db/ttrl"})
    assert found.config.admin.key == "01234567890123456789"
    assert found.config.engine.api_key == " no: [yaml"
    assert found.config.store.url == "postgresql://me@db/ttrl"
    assert found.sources["admin.key"] is Source.CREDENTIALS


def test_bad_credentials_are_refused_and_not_shown(credentials):
    directory, environ = credentials
    (directory / "TTRL_ADMIN__KEY").write_text("too short")
    with pytest.raises(ConfigError, match=r"admin.key: .*from the credentials") as refused:
        load(environ=environ)
    assert "too short" not in str(refused.value)
    (directory / "TTRL_ADMIN__KEY").rename(directory / "TTRL_ADMIN__KEYS")
    with pytest.raises(ConfigError, match=r"did you mean admin.key\?"):
        load(environ=environ)
    (directory / "TTRL_ADMIN__KEYS").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"TTRL_ADMIN__KEYS is not UTF-8 text"):
        load(environ=environ)
    with pytest.raises(ConfigError, match=r"cannot read the credentials in /nowhere .*No such"):
        load(environ={"CREDENTIALS_DIRECTORY": "/nowhere"})


def test_a_misspelt_environment_variable_is_refused():
    with pytest.raises(ConfigError, match=r"did you mean gateway.port.*from the environment"):
        load(environ={"TTRL_GATEWAY__PROT": "1"})


def test_all_mistakes_are_told_at_once(file):
    with pytest.raises(ConfigError) as told:
        load(file("gateway: {port: x}\nvote: {samples: y}\n"), environ={})
    assert len(str(told.value).splitlines()) == 2


def test_secrets_are_not_shown():
    rows = load(environ={"TTRL_ENGINE__API_KEY": "hush"}).rows()
    assert "hush" not in str(list(rows))


def test_the_password_of_the_store_is_not_shown():
    url = "postgresql://me:hush@db:1/ttrl?sslpassword=hush"
    found = load(environ={"TTRL_STORE__URL": url})
    assert "hush" not in repr(found.config)
    shown = {path: value for path, value, _ in found.rows()}
    assert shown["store.url"] == "postgresql+psycopg://me:***@db:1/ttrl"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hush", "not a database URL"),
        ("postgresql://db:hush/ttrl", "not a database URL"),
        ("postgresql://me:p@hush@db/ttrl", "%40"),
        ("mysql://me:hush@db/ttrl", r"must be SQLite .* or PostgreSQL"),
        ("postgresql+asyncpg://me:hush@db/ttrl", r"must be SQLite .* or PostgreSQL"),
        ("sqlite://", "sqlite:///file"),
        ("sqlite:///:memory:", "sqlite:///file"),
        ("sqlite:///x?hush=1", "sqlite:///file"),
    ],
)
def test_a_store_that_cannot_be_is_named_without_its_password(url, message):
    with pytest.raises(ConfigError, match=rf"^store\.url: .*{message}.*\(from the ") as told:
        load(environ={}, overrides={"store.url": url})
    assert "hush" not in str(told.value)


def test_overriding_checks_again():
    assert override(Config(), {"update.steps": 3}).update.steps == 3
    with pytest.raises(ConfigError, match=r"update\.steps"):
        override(Config(), {"update.steps": 0})


def test_a_configuration_survives_json():
    config = load(
        environ={}, overrides={"schedule.every": "90m", "gateway.max_body": "2MiB"}
    ).config
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_the_recipes_are_where_an_operator_looks_for_them():
    shown = Path(__file__).parents[2] / "configs" / "recipes"
    assert {file.stem for file in shown.glob("*.yaml")} == set(recipes()) != set()


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_is_one_line_and_everything_wins_over_it(name, tmp_path):
    file = tmp_path / "ttrl.yaml"
    file.write_text(f"recipe: {name}\nvote:\n  samples: 40\n")
    found = load(file, environ={"TTRL_VOTE__FLOOR": "0.33"}, overrides={"update.keep": 9})
    assert (found.config.vote.samples, found.config.vote.floor, found.config.update.keep) == (
        40, 0.33, 9,
    )  # fmt: skip
    assert found.config.vote.kind is not None
    assert found.sources["vote.kind"] is Source.RECIPE
    assert found.sources["vote.samples"] is Source.FILE
    assert name in RECIPES.joinpath(f"{name}.yaml").read_text(), "it says how to be used"


def test_a_recipe_that_there_is_not(tmp_path):
    with pytest.raises(ConfigError, match="unknown recipe 'maths'; known: choice, domain-qa"):
        load(environ={"TTRL_RECIPE": "maths"})
    assert load(environ={}, overrides={"recipe": "choice"}).config.vote.kind == "choice"


def test_a_reward_of_a_recipe_is_taken_out_with_a_weight_of_nothing():
    found = load(environ={}, overrides={"recipe": "free-text", "vote.rewards.echo": 0})
    assert found.config.vote.rewards["soft_majority"] == 1.0
    assert found.config.vote.rewards["echo"] == 0


def test_every_setting_is_explained():
    every = [each for *_, members in settings() for each in members]
    assert [each.path for each in every] == [path for path, *_ in Resolved(Config(), {}).rows()]
    assert [each.path for each in every if not each.text] == []
    assert {each.path: each.default for each in every} == {
        path: value for path, value, _ in Resolved(Config(), {}).rows()
    }


def test_types_and_docstrings_in_words():
    found = {each.path: each for *_, members in settings() for each in members}
    assert found["vote.samples"].type == "integer, at least 2, at most 256"
    assert found["schedule.every"].type == 'duration such as "1h30m" or null'
    assert found["gate.ship"].type == "better, sharper"
    assert found["vote.samples"].variable == "TTRL_VOTE__SAMPLES"
    assert "\n" not in found["engine.retries"].text


def test_a_file_to_begin_with_sets_what_was_given_and_explains_the_rest(file):
    given = {"vote.samples": 48, "schedule.windows": ["22:00-06:00"]}
    assert load(file(template({})), environ={}).sources == {}
    found = load(file(template(given)), environ={})
    assert found.given(Source.FILE) == given
    setting = re.compile(r"^( *)#(\w+:)", re.MULTILINE)
    whole = load(file(setting.sub(r"\1\2", template({}))), environ={})
    assert whole.config == Config()
    assert whole.sources.keys() == set(known_paths())
