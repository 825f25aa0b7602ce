"""The settings: every key, sizes and durations, overrides from the environment, and errors that say the mend."""

import copy

import pytest
import yaml

from cubegate.errors import ConfigurationError
from cubegate.settings import Settings, load_settings, read_yaml

WHOLE = """
server: {host: 0.0.0.0, port: 8080, workers: 3, cors_origins: ["https://maps.example.org"]}
cache: {memory: 2GiB, redis: "redis://localhost:6379/0"}
limits: {chunks: 50, bytes: 4MiB, cells: 200, points: 7, deadline: 90s, memory: 2GiB}
credentials:
  earthdata: {kind: earthdata, token_env: EARTHDATA_TOKEN}
  filed: {kind: earthdata, token_file: secrets/token}
  ours: {kind: s3, access_key_id_env: OUR_KEY, secret_access_key_env: OUR_SECRET, session_token_env: OUR_TOKEN}
  mounted: {kind: s3, access_key_id_file: secrets/id, secret_access_key_file: secrets/key, session_token_file: secrets/session}
  theirs: {kind: aws, profile: name}
  asf: {kind: earthdata-s3, endpoint: "https://archive.example.org/s3credentials", username_env: ME, password_env: MINE}
  mirror: {kind: earthdata, netrc: true, login: "https://login.example.org"}
upstreams:
  "s3://ours/": {credentials: ours, region: us-west-2, endpoint_url: "https://objects.example.org"}
  "s3://open/": {anonymous: true}
  "file:///srv/granules/": {}
collections: ["collections/*.yaml", "/srv/more/*.yaml"]
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "cubegate.yaml"
        file.write_text(text, "utf-8")
        return file

    return write


@pytest.fixture
def load(write):
    return lambda text="", **environment: load_settings(write(text), environment)


@pytest.fixture
def refuse(write):
    """Load what cannot be used, and return its error."""

    def refuse(text="", **environment):
        with pytest.raises(ConfigurationError) as caught:
            load_settings(write(text), environment)
        return caught.value

    return refuse


def test_every_key_is_read(load, tmp_path):
    settings = load(WHOLE)
    written = yaml.safe_load(WHOLE)
    expected = copy.deepcopy(written)
    expected["cache"]["memory"] = 2 * 2**30
    expected["limits"].update(bytes=4 * 2**20, deadline=90.0, memory=2 * 2**30)
    expected["credentials"]["filed"]["token_file"] = tmp_path / "secrets/token"
    for part, name in (("access_key_id", "id"), ("secret_access_key", "key"), ("session_token", "session")):
        expected["credentials"]["mounted"][f"{part}_file"] = tmp_path / "secrets" / name
    read = settings.model_dump()
    for section, value in expected.items():
        if isinstance(value, list):
            assert list(read[section]) == value
            continue
        for key, inner in value.items():
            if isinstance(inner, dict):
                assert {name: read[section][key][name] for name in inner} == inner
            else:
                found = read[section][key]
                assert (list(found) if isinstance(found, tuple) else found) == inner
    assert settings.directory == tmp_path


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\ncache:\n  redis:\ncredentials:\nlimits: {}\n"])
def test_what_is_left_empty_has_its_default(load, text):
    settings = load(text)
    assert settings.model_dump() == Settings().model_dump()
    assert (settings.server.port, settings.cache.memory, settings.limits.deadline) == (8000, 2**30, 60.0)


def test_an_upstream_without_options_may_be_left_empty(load):
    assert load('upstreams:\n  "file:///srv/":\n').upstreams["file:///srv/"].anonymous is False


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("1GiB", 2**30),
        ("512 MiB", 512 * 2**20),
        ("1.5KiB", 1536),
        ("4GB", 4 * 10**9),
        ("10kb", 10_000),
        ("1TiB", 2**40),
        ("7B", 7),
        ("1048576", 2**20),
        (1048576, 2**20),
        (0, 0),
    ],
)
def test_sizes(load, written, size):
    assert load(yaml.safe_dump({"cache": {"memory": written}})).cache.memory == size


@pytest.mark.parametrize(
    "written", ["1 GIGA", "-5MiB", "1.2.3KB", ".", "MiB", True, -1, "\u0663KB", [1], 1e30]
)
def test_sizes_that_are_none(refuse, written):
    error = refuse(yaml.safe_dump({"cache": {"memory": written}}, allow_unicode=True))
    assert error.key == "cache.memory"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("60s", 60.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("2min", 120.0),
        ("1h", 3600.0),
        ("1.5 s", 1.5),
        ("7", 7.0),
        (7, 7.0),
        (0.25, 0.25),
    ],
)
def test_durations(load, written, seconds):
    assert load(yaml.safe_dump({"limits": {"deadline": written}})).limits.deadline == seconds


@pytest.mark.parametrize(
    "written", ["1 day", "0s", 0, -1, "-1s", True, float("inf"), float("nan"), "1..5s", []]
)
def test_durations_that_are_none(refuse, written):
    error = refuse(yaml.safe_dump({"limits": {"deadline": written}}))
    assert error.key == "limits.deadline"


def test_the_environment_wins(load):
    settings = load(
        "server: {port: 1, workers: 5}\ncredentials: {Ours: {kind: aws}}\n",
        CUBEGATE_SERVER__PORT="8080",
        CUBEGATE_SERVER__CORS_ORIGINS='["https://a.example"]',
        CUBEGATE_CACHE__REDIS="redis://redis:6379/0",
        CUBEGATE_CACHE__MEMORY="64MiB",
        CUBEGATE_LIMITS__DEADLINE="10s",
        CUBEGATE_LIMITS__CHUNKS="12",
        CUBEGATE_CREDENTIALS__OURS__PROFILE="mine",
        CUBEGATE_CREDENTIALS__NEW__KIND="aws",
        CUBEGATE_CONFIG="/not/a/setting",
        PATH="/usr/bin",
    )
    assert (settings.server.port, settings.server.workers) == (8080, 5)
    assert settings.server.cors_origins == ("https://a.example",)
    assert (settings.cache.redis, settings.cache.memory) == ("redis://redis:6379/0", 64 * 2**20)
    assert (settings.limits.deadline, settings.limits.chunks) == (10.0, 12)
    assert settings.credentials["Ours"].profile == "mine"
    assert set(settings.credentials) == {"Ours", "new"}


def test_the_environment_fills_a_section_that_is_empty_in_the_file(load):
    assert load("server:\n", CUBEGATE_SERVER__PORT="1").server.port == 1


@pytest.mark.parametrize(
    ("name", "value", "key", "said"),
    [
        ("CUBEGATE_SERVE__PORT", "1", "serve", "Known keys here: server, cache, limits"),
        ("CUBEGATE_SERVER__PROT", "1", "server.prot", "Known keys here: host, port, workers"),
        ("CUBEGATE_SERVER__PORT", "many", "server.port", "integer"),
        ("CUBEGATE_CACHE__MEMORY", "much", "cache.memory", "1GiB"),
        ("CUBEGATE_LIMITS__DEADLINE", "later", "limits.deadline", "60s"),
        ("CUBEGATE_COLLECTIONS__FIRST", "x.yaml", "", "Unset this variable"),
        ("CUBEGATE_SERVER__PORT__LOW", "1", "", "Unset this variable"),
        ("CUBEGATE___PORT", "1", "", "Known keys here"),
        ("CUBEGATE_CREDENTIALS__NEW__PROFILE", "mine", "credentials.new.kind", "Add it"),
        ("CUBEGATE_CREDENTIALS__OURS__PROFIL", "mine", "credentials.ours.profil", "profile"),
    ],
)
def test_an_override_that_cannot_be_used_names_its_variable(refuse, name, value, key, said):
    error = refuse("server: {port: 1}\ncollections: []\ncredentials: {ours: {kind: aws}}\n", **{name: value})
    assert error.file == name
    assert str(error).startswith(f"{name}: ")
    assert error.key.startswith(key)
    assert said in str(error)


def test_a_mistake_of_the_file_does_not_blame_the_environment(refuse, tmp_path):
    error = refuse("server: {prot: 1}\n", CUBEGATE_SERVER__PORT="8000")
    assert (error.file, error.key) == (str(tmp_path / "cubegate.yaml"), "server.prot")


@pytest.mark.parametrize(
    ("text", "key", "mend"),
    [
        ("serve: {}", "serve", "Known keys here: server, cache, limits, credentials, upstreams, archives, collections."),
        ("directory: /srv", "directory", "Known keys here: server"),
        ("server: {prot: 1}", "server.prot", "Known keys here: host, port, workers, cors_origins, access_log."),
        ("upstreams: {'s3://x/': {regoin: y}}", "upstreams.s3://x/.regoin", "credentials, anonymous, region, endpoint_url."),
        ("credentials: {a: {kind: s3, key: b}}", "credentials.a.key", "kind, access_key_id_env"),
        ("credentials: {a: {}}", "credentials.a.kind", "Add it."),
        ("credentials: {a: {kind: ftp}}", "credentials.a.kind", "'s3', 'aws', 'earthdata' or 'earthdata-s3'"),
        ("server: 8000", "server", "Write keys and values below it."),
        ("upstreams: ['s3://x/']", "upstreams", "Write keys and values below it."),
        ("upstreams: {'s3://x/': yes}", "upstreams.s3://x/", "Write keys and values below it."),
        ("collections: a.yaml", "collections", "Write a list"),
        ("credentials: {a: {kind: aws, profile: 0123}}", "credentials.a.profile", "in quotes"),
        ("server: {port: 70000}", "server.port", "65535"),
        ("limits: {chunks: 0}", "limits.chunks", "greater than or equal to 1"),
        ("limits: {memory: 0}", "limits.memory", "greater than or equal to 1"),
        ("upstreams: {'s3://x/': {credentials: ours}}", "upstreams.s3://x/.credentials", "section: none."),
        (
            "credentials: {mine: {kind: aws}}\nupstreams: {'s3://x/': {credentials: ours}}",
            "upstreams.s3://x/.credentials",
            "section: mine.",
        ),
    ],
)  # fmt: skip
def test_errors_name_the_file_the_key_and_the_mend(refuse, tmp_path, text, key, mend):
    error = refuse(text)
    assert (error.file, error.key) == (str(tmp_path / "cubegate.yaml"), key)
    assert str(error).startswith(f"{error.file}: {key}: ")
    assert mend in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"server: [", "not valid YAML at line 1"),
        (b"a: 1\n  b: 2\n", "not valid YAML at line 2"),
        (b"- a\n", "not a mapping"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"day: 2020-13-45\n", "not valid YAML"),
        (b"[" * 1_000, "not valid YAML"),
        (b"- " * 100_000, "not valid YAML"),
    ],
)
def test_files_that_hold_no_settings(tmp_path, content, said):
    file = tmp_path / "cubegate.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_settings(file, {})
    assert str(caught.value).startswith(f"{file}: ")


def test_a_long_file_is_read_as_a_short_one_is(tmp_path):
    file = tmp_path / "any.yaml"
    text = "a: {b: [1, 2.5, yes, 2020-01-31, null, 0o17, 1_000]}\nc: &d {e: f}\ng: {<<: *d}\nh: |\n  i\n"
    file.write_text(text)
    short = read_yaml(file)
    file.write_text("# comment\n" * 2_000 + text)
    assert read_yaml(file) == short
    assert short["g"] == {"e": "f"}


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    for file in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            load_settings(file, {})
        assert caught.value.file == str(file)


MARKER = "marker-of-a-password"


def test_secrets_are_neither_shown_nor_said(load, refuse):
    redis = f"redis://:{MARKER}@localhost:6379/0"
    settings = load(f"cache: {{redis: '{redis}'}}\n")
    assert settings.cache.redis == redis
    assert MARKER not in repr(settings)
    assert MARKER not in str(settings.cache)
    for error in (
        refuse(f"cache: {{redis: ['{redis}']}}\n"),
        refuse(f"cache: {{redis: '{redis}', memory: no-size}}\n"),
        refuse("server: {port: x}\n", CUBEGATE_CACHE__REDIS=redis),
        refuse(CUBEGATE_CACHE__REDIS=f"[{redis}]"),
        refuse(CUBEGATE_CACHE__MEMORY=MARKER),
        refuse(f"upstreams: {{'https://user:{MARKER}@host/?key={MARKER}': {{regoin: x}}}}\n"),
        refuse(f"upstreams: {{'https://user:{MARKER}@host/': {{credentials: absent}}}}\n"),
    ):
        assert MARKER not in str(error)
        assert MARKER not in repr(error)
        assert MARKER not in str(error.__context__)
