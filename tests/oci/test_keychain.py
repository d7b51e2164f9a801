"""Credentials: which file counts, which key fits, what helpers bring, and that nothing is shown."""

from __future__ import annotations

import base64
import json

import pytest

from parpull.errors import BadOption
from parpull.oci.keychain import Credentials, Keychain
from parpull.oci.reference import Reference

IMAGE = Reference.parse("registry.example:5000/team/models/llm:1")
HUB = Reference.parse("alpine")


def auth(user, password="secret"):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def home(tmp_path):
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".config" / "containers").mkdir(parents=True)
    (tmp_path / "run" / "containers").mkdir(parents=True)
    return tmp_path


def keychain(home, **more):
    return Keychain(environ={"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), **more})


def docker(home, **document):
    (home / ".docker" / "config.json").write_text(json.dumps(document))


def podman(home, document):
    (home / "run" / "containers" / "auth.json").write_text(json.dumps(document))


def test_nobody_is_known(home):
    assert keychain(home).find(IMAGE) is None


def test_what_is_given_comes_first(home):
    docker(home, auths={"registry.example:5000": auth("me")})
    given = Credentials("other", "word")
    assert Keychain(given, {"HOME": str(home)}).find(IMAGE) is given


@pytest.mark.parametrize(
    "key", ["registry.example:5000", "https://registry.example:5000", "http://registry.example:5000/v2/"]
)
def test_docker_login(home, key):
    docker(home, auths={key: auth("me", "a:b")})
    assert keychain(home).find(IMAGE) == Credentials("me", "a:b")
    assert keychain(home).find(HUB) is None


@pytest.mark.parametrize("key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io"])
def test_docker_hub(home, key):
    docker(home, auths={key: auth("me")})
    assert keychain(home).find(HUB) == Credentials("me", "secret")
    assert keychain(home).find(IMAGE) is None


def test_a_login_may_leave_a_token(home):
    docker(home, auths={"registry.example:5000": {"identitytoken": "t"}})
    assert keychain(home).find(IMAGE) == Credentials(refresh="t")


def test_podman_knows_parts_of_a_registry(home):
    podman(home, {"auths": {
        "registry.example:5000": auth("all"),
        "registry.example:5000/team": auth("team"),
        "registry.example:5000/team/models": auth("models"),
        "registry.example:5000/team/mod": auth("no part"),
    }})  # fmt: skip
    assert keychain(home).find(IMAGE).username == "models"
    assert keychain(home).find(Reference.parse("registry.example:5000/team/x")).username == "team"
    assert keychain(home).find(Reference.parse("registry.example:5000/teams/x")).username == "all"


def test_the_first_file_that_knows_the_registry_counts(home):
    docker(home, auths={"elsewhere.example": auth("elsewhere")})
    podman(home, {"auths": {"registry.example:5000": auth("podman")}})
    (home / ".config" / "containers" / "auth.json").write_text(json.dumps({"auths": {"docker.io": auth("hub")}}))
    assert keychain(home).find(IMAGE).username == "podman"
    assert keychain(home).find(HUB).username == "hub"


def test_a_named_file_is_the_only_one(home):
    docker(home, auths={"registry.example:5000": auth("me")})
    named = home / "auth.json"
    named.write_text("{}")
    assert keychain(home, REGISTRY_AUTH_FILE=str(named)).find(IMAGE) is None


def test_docker_config_is_another_folder(home):
    folder = home / "elsewhere"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {"docker.io": auth("me")}}))
    assert keychain(home, DOCKER_CONFIG=str(folder)).find(HUB).username == "me"


@pytest.fixture
def helper(home, monkeypatch):
    """docker-credential-test, which answers with `answer` and keeps what it was asked."""

    def make(answer, code=0):
        script = home / "bin" / "docker-credential-test"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ncat > {home}/asked\ncat <<'E'\n{answer}\nE\nexit {code}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")

    return make


@pytest.mark.parametrize("how", [{"credsStore": "test"}, {"credHelpers": {"registry.example:5000": "test"}}])
@pytest.mark.parametrize(
    ("user", "found"), [("me", Credentials("me", "s3cret")), ("<token>", Credentials(refresh="s3cret"))]
)
def test_a_helper_is_asked(home, helper, how, user, found):
    docker(home, **how)
    helper(json.dumps({"ServerURL": "x", "Username": user, "Secret": "s3cret"}))
    assert keychain(home).find(IMAGE) == found
    assert (home / "asked").read_text() == "registry.example:5000"


def test_a_helper_that_knows_nothing(home, helper):
    docker(home, credsStore="test", auths={"registry.example:5000": {}})
    helper("credentials not found in native keychain", 1)
    assert keychain(home).find(IMAGE) is None


@pytest.mark.parametrize("answer", ["s3cret", "{}", '{"Username": "s3cret"}'])
@pytest.mark.parametrize("code", [0, 1])
def test_a_helper_that_fails_is_named_and_its_words_are_not_shown(home, helper, answer, code):
    docker(home, credsStore="test")
    helper(answer, code)
    with pytest.raises(BadOption, match=r"docker-credential-test failed for registry\.example:5000") as caught:
        keychain(home).find(IMAGE)
    assert "s3cret" not in str(caught.value)


def test_a_helper_that_is_missing(home, monkeypatch):
    docker(home, credsStore="nowhere")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BadOption, match="docker-credential-nowhere failed"):
        keychain(home).find(IMAGE)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense s3cret",
        "[]",
        '"s3cret"',
        "\x00",
        '{"auths": 3}',
        '{"auths": {"x": 3}}',
        '{"auths": {"x": {"auth": 3}}}',
        '{"auths": {"x": {"auth": "s3cret!"}}}',
        '{"auths": {"x": {"auth": "czNjcmV0"}}}',
        '{"credHelpers": ["s3cret"]}',
        '{"credHelpers": {"x": 7}}',
        '{"credsStore": 7}',
        '{"credsStore": "../s3cret"}',
    ],
)
def test_a_file_that_makes_no_sense_is_told(home, text):
    (home / ".docker" / "config.json").write_text(text)
    with pytest.raises(BadOption) as caught:
        keychain(home).find(IMAGE)
    assert "s3cret" not in str(caught.value)


def test_secrets_are_not_shown():
    assert "s3cret" not in repr(Credentials("me", "s3cret", refresh="s3cret"))
