"""What is answered over HTTP, on the tiny backbone."""

import base64
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories.deltas import store_noise
from tests.factories.serving import CODES, error_of, serving, until
from xclipt.artifacts.directory import ArtifactDirectory
from xclipt.backbones.text_tower import TextTower
from xclipt.model import Model
from xclipt.search.index import index_pictures
from xclipt.serving.service import Limits, Offer

TEXTS = ["un chat noir", "chien"]
SMALL = Limits(body=2000, inputs=3, characters=50, queue=4)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("app")) as running:
        yield running


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("small"), limits=SMALL) as running:
        yield running


def features_of(response):
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [one["index"] for one in data] == list(range(len(data)))
    return np.array([one["embedding"] for one in data], "f4")


def offline(running, texts, language=None, fallback="error"):
    """What a model of its own gives, that nothing else has been asked."""
    return Model(running.service.model.workspace).encode_text(texts, language, fallback=fallback)


def test_embeddings_are_those_of_encode_text(running):
    response = running.post(input=TEXTS, language="fr", model="tiny")
    assert features_of(response) == pytest.approx(offline(running, TEXTS, "fr"), abs=1e-6)
    document = response.json()
    assert (document["object"], document["model"]) == ("list", "tiny")
    assert document["data"][1] | {"embedding": 0} == {
        **{"object": "embedding", "index": 1, "embedding": 0},
        **{"language": "fr", "delta": "noise", "fallback": False},
    }
    assert document["usage"] == {"prompt_tokens": 5 + 3, "total_tokens": 8}


@pytest.mark.parametrize(
    ("given", "language"),
    [
        ("fr", ["fr", "fr"]),
        (["fr", "de"], ["fr", "de"]),
        (["FR-ca", None], ["fr", None]),
        (None, [None, None]),
        ("en", ["en", "en"]),
    ],
)
def test_languages_are_one_or_one_each(running, given, language):
    response = running.post(input=TEXTS, language=given)
    assert features_of(response) == pytest.approx(offline(running, TEXTS, language), abs=1e-5)
    assert [one["language"] for one in response.json()["data"]] == language


def test_base64_is_the_same_to_the_bit(running):
    floats = features_of(running.post(input=TEXTS, language="de"))
    response = running.post(input=TEXTS, language="de", encoding_format="base64")
    packed = [base64.b64decode(one["embedding"]) for one in response.json()["data"]]
    assert (np.array([np.frombuffer(one, "<f4") for one in packed]) == floats).all()


def test_openais_client_is_content(running):
    client = openai.OpenAI(
        base_url="http://testserver/v1", api_key="-", http_client=running.client, max_retries=0
    )
    extra = {"language": ["fr", "de"]}
    for asked in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        found = client.embeddings.create(model="tiny", input=TEXTS, extra_body=extra, **asked)
        features = [
            np.frombuffer(base64.b64decode(one.embedding), "<f4")
            if asked.get("encoding_format") == "base64"
            else one.embedding
            for one in found.data
        ]
        assert features == pytest.approx(offline(running, TEXTS, ["fr", "de"]), abs=1e-5)
    raw = client.embeddings.with_raw_response.create(model="tiny", input="chat")
    assert isinstance(raw.http_response.json()["data"][0]["embedding"], str), "by default"
    with pytest.raises(openai.BadRequestError, match=r"fallback.*base") as caught:
        client.embeddings.create(model="tiny", input="x", extra_body={"language": "nl"})
    assert (caught.value.code, caught.value.param) == ("no_delta", "language")
    with pytest.raises(openai.NotFoundError, match="there is 'tiny'"):
        client.embeddings.create(model="text-embedding-3-large", input="x")
    assert client.models.list().data[0].id == "tiny"


def test_auto_detects_and_says_how_sure_it_is(running):
    pytest.importorskip("py3langid")
    texts = ["deux chiens courent dans la neige fraîche", "zwei Hunde rennen durch den Schnee"]
    response = running.post(input=texts, language="auto")
    assert features_of(response) == pytest.approx(offline(running, texts, ["fr", "de"]), abs=1e-5)
    assert all(one["confidence"] > 0.5 for one in response.json()["data"])


@pytest.mark.usefixtures("without_detection")
def test_auto_without_the_extra_names_it(running):
    error = running.refused(400, input=TEXTS, language=["fr", "auto"])
    assert "pip install 'xclipt[detect]'" in error["message"] and error["param"] == "language"


def test_a_language_without_a_delta_is_refused_unless_the_base_is_asked_for(running, tmp_path):
    error = running.refused(400, input="un chat", language="nl")
    assert error["message"] == (
        "language 'nl' (Dutch) has no delta here (there: de, fr); "
        'send "fallback": "base" to encode it with the frozen base'
    )
    assert (error["param"], error["code"]) == ("language", "no_delta")
    response = running.post(input=TEXTS, language=["nl", "fr"], fallback="base")
    assert features_of(response) == pytest.approx(offline(running, TEXTS, [None, "fr"]), abs=1e-5)
    assert [one["fallback"] for one in response.json()["data"]] == [True, False]
    with serving(tmp_path, offer=Offer("fr", "base")) as lenient:
        said = lenient.post(input=TEXTS).json()["data"]
        assert [one["language"] for one in said] == ["fr", "fr"]
        assert lenient.post(input=TEXTS, language="nl").json()["data"][0]["fallback"]
        lenient.refused(400, input=TEXTS, language="nl", fallback="error")


@pytest.mark.parametrize(
    ("body", "param", "part"),
    [
        ({}, "input", "field required"),
        ({"input": []}, "input", "send a text"),
        ({"input": ""}, "input", "the text is empty"),
        ({"input": ["chat", " "]}, "input", "text 2 of 2 is empty"),
        ({"input": [1, 2]}, "input", "token ids"),
        ({"input": [[1, 2], [3]]}, "input", "token ids"),
        ({"input": ["chat", 3]}, "input", "valid string"),
        ({"input": {"text": "chat"}}, "input", "valid list"),
        ({"input": "\ud83d"}, "input", "no Unicode"),
        ({"input": "chat", "language": "germn"}, "language", "did you mean de (German)"),
        ({"input": "chat", "language": "x" * 5000}, "language", "that is no code"),
        ({"input": "chat", "language": 3}, "language", "valid string"),
        ({"input": "chat", "language": ["fr", "de"]}, "language", "2 codes for 1 texts"),
        ({"input": "chat", "langauge": "fr"}, "langauge", "no such field"),
        ({"input": "chat", "fallback": "best"}, "fallback", "'error' or 'base'"),
        ({"input": "chat", "encoding_format": "int8"}, "encoding_format", "'float' or 'base64'"),
        ({"input": "chat", "dimensions": 4}, "dimensions", "8 dimensions"),
        ({"input": "chat " * 40}, "input", "16 tokens that the text tower sees; shorten it, or"),
    ],
    ids=str,
)
def test_bad_input_is_refused_in_openais_shape(running, body, param, part):
    response = running.client.post(
        "/v1/embeddings", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert response.status_code == 400
    error = error_of(response)
    assert part in error["message"], error
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_what_is_no_request_at_all(running):
    for body in ("", "{", "[]", "3", "\x00", "[" * 5000):
        response = running.client.post(
            "/v1/embeddings", content=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 400 and error_of(response)["param"] is None, body[:9]
    # A page in a browser may send this one to any machine without asking first.
    response = running.client.post(
        "/v1/embeddings", content='{"input": "chat"}', headers={"content-type": "text/plain"}
    )
    assert response.status_code == 400 and "application/json" in error_of(response)["message"]
    assert error_of(running.client.get("/v1/nothing"))["message"] == "Not Found"
    wrong = running.client.get("/v1/embeddings")
    assert wrong.status_code == 405 and wrong.headers["allow"] == "POST" and error_of(wrong)


def test_another_model_or_width_is_no_silent_substitute(running):
    error = running.refused(404, input="chat", model="text-embedding-3-small")
    assert "there is 'tiny'" in error["message"] and error["code"] == "model_not_found"
    assert running.refused(404, input="chat", model="a\nb\x1b[2J")["message"].isprintable()
    assert running.refused(400, input="chat", **{"a\nb": 1})["message"].startswith("a\\nb: ")
    assert running.post(input="chat", dimensions=8, user="me", model=None).status_code == 200


def test_a_long_text_is_cut_where_that_is_asked_for(running):
    long = " ".join(["chat"] * 40)
    cut = features_of(running.post(input=long, language="fr", truncate=True))
    assert cut == pytest.approx(offline(running, [" ".join(["chat"] * 14)], "fr"), abs=1e-6)
    features_of(running.post(input=" ".join(["chat"] * 14), language="fr"))


_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # halves of pairs too
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
_FIELDS = (
    "input",
    "query",
    "language",
    "fallback",
    "encoding_format",
    "dimensions",
    "top",
    "model",
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=4) | _JSON)
def test_whatever_is_sent_is_answered_or_refused(running, body):
    for path in ("/v1/embeddings", "/search"):
        response = running.client.post(
            path, content=json.dumps(body), headers={"content-type": "application/json"}
        )
        assert response.status_code == 200 or error_of(response)
        assert response.status_code < 500
    assert not running.notes.said


def test_limits(small):
    ok = small.post(input=["chat"] * 3)
    assert ok.status_code == 200
    assert "may have 3" in small.refused(413, input=["chat"] * 4)["message"]
    assert "may have 50" in small.refused(413, input="chat " * 11)["message"]
    long = {"input": "chat", "user": "x" * 2000}
    assert "larger than 2,000 bytes" in small.refused(413, **long)["message"]

    def chunks():
        yield from [b"x" * 500] * 60

    response = small.client.post("/v1/embeddings", content=chunks())
    assert response.status_code == 413 and error_of(response)["code"] == "too_large"


def test_a_full_queue_is_429_and_says_when_to_come_again(small):
    with small.held.holding(), ThreadPoolExecutor() as pool:
        first = pool.submit(small.post, input="chat")
        assert small.held.came.wait(10)
        second = pool.submit(small.post, input=["chat"] * 3)
        until(lambda: small.service.waiting == 3)
        response = small.post(input=["chat"] * 2)
        assert response.status_code == 429 and response.headers["retry-after"] == "1"
        assert error_of(response)["type"] == "rate_limit_error"
        assert small.client.get("/healthz").status_code == 200, "who only looks is answered"
        small.held._free.set()
        assert {first.result(10).status_code, second.result(10).status_code} == {200}


def test_keys(tmp_path):
    with serving(tmp_path, keys=("first-key", "second-key")) as running:
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic first-key"}):
            response = running.client.post("/v1/embeddings", json={"input": "x"}, headers=headers)
            assert response.status_code == 401 and error_of(response)["code"] == "key"
            assert response.headers["www-authenticate"] == "Bearer"
            assert running.client.get("/metrics", headers=headers).status_code == 401
        for key in ("first-key", "second-key"):
            headers = {"Authorization": f"Bearer {key}"}
            response = running.client.post("/v1/embeddings", json={"input": "x"}, headers=headers)
            assert response.status_code == 200
        assert running.client.get("/healthz").json() == {"status": "ok"}


def test_thirty_two_languages_at_once_share_one_pass_and_are_what_they_are_offline(
    tmp_path, monkeypatch
):
    count = Counter()
    forward = TextTower.forward

    def counted(*arguments):
        count["forward"] += 1
        return forward(*arguments)

    with serving(tmp_path, CODES) as running:
        expected = {code: offline(running, ["un chat noir"], code) for code in CODES}
        assert len({features.tobytes() for features in expected.values()}) == len(CODES)
        with running.held.holding(), ThreadPoolExecutor(40) as pool:
            first = pool.submit(running.post, input="chien")
            assert running.held.came.wait(10)
            asked = {
                code: pool.submit(running.post, input="un chat noir", language=code)
                for code in CODES
            }
            until(lambda: running.service.waiting == len(CODES))
            monkeypatch.setattr(TextTower, "forward", counted)
            running.held._free.set()
            found = {code: features_of(future.result(20)) for code, future in asked.items()}
            assert first.result().status_code == 200
        assert count["forward"] == 1 + 1
        assert [one.requests for one in running.passes] == [1, len(CODES)]
    for code in CODES:
        assert found[code] == pytest.approx(expected[code], abs=1e-5), code


def test_deltas_trained_meanwhile_are_seen(tmp_path):
    with serving(tmp_path) as running:
        service = running.service
        before = features_of(running.post(input=TEXTS, language="fr"))
        assert not service.look()
        store_noise(service.model.workspace, "fr", "newer", 0.3, seed=9)
        store_noise(service.model.workspace, "tr", "noise", 0.3, seed=8)
        assert (features_of(running.post(input=TEXTS, language="fr")) == before).all()
        assert service.look() and not service.look()
        response = running.post(input=TEXTS, language="fr")
        assert response.json()["data"][0]["delta"] == "newer"
        assert features_of(response) == pytest.approx(offline(running, TEXTS, "fr"), abs=1e-6)
        assert abs(features_of(response) - before).max() > 1e-4
        features_of(running.post(input=TEXTS, language="tr"))
        directory = ArtifactDirectory.open(service.model.workspace.directory.root)
        directory.set_current("fr", "noise")
        assert service.look()
        assert (features_of(running.post(input=TEXTS, language="fr")) == before).all()
        directory.remove("tr", "noise")
        assert service.look()
        running.refused(400, input=TEXTS, language="tr")
        assert not running.notes.said


def test_a_request_is_answered_with_the_delta_that_it_was_taken_with(tmp_path):
    with serving(tmp_path) as running, ThreadPoolExecutor() as pool:
        before = offline(running, TEXTS, "fr")
        with running.held.holding():
            waiting = pool.submit(running.post, input=TEXTS, language="fr")
            assert running.held.came.wait(10)
            store_noise(running.service.model.workspace, "fr", "newer", 0.3, seed=9)
            running.service.model.refresh()
        response = waiting.result(10)
        assert response.json()["data"][0]["delta"] == "noise"
        assert features_of(response) == pytest.approx(before, abs=1e-6)


def test_the_watch_sees_them_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("xclipt.serving.service._SECONDS_BETWEEN_LOOKS", 0.02)
    with serving(tmp_path) as running:
        running.service.start()
        store_noise(running.service.model.workspace, "tr", "noise", 0.3, seed=8)
        until(lambda: running.post(input=TEXTS, language="tr").status_code == 200)
        until(lambda: "Deltas have changed; there are now: de, fr, tr" in running.notes.said)


def test_a_damaged_delta_is_its_languages_trouble_alone_and_tells_no_path(tmp_path):
    with serving(tmp_path) as running:
        root = running.service.model.workspace.directory.root
        (path,) = (root / "deltas/de/noise").glob("delta-*")
        path.write_bytes(b"cut")
        running.service.start()
        for _ in range(2):
            error = running.refused(500, input=TEXTS, language="de")
            assert "log" in error["message"] and str(root) not in error["message"]
            assert error["type"] == "server_error"
        assert [str(path) in said for said in running.notes.said] == [True], "once is enough"
        features_of(running.post(input=TEXTS, language="fr"))


def test_a_directory_that_goes_away_is_told_and_served_on(tmp_path):
    with serving(tmp_path) as running:
        running.service.start()
        before = features_of(running.post(input=TEXTS, language="fr"))
        root = running.service.model.workspace.directory.root
        root.rename(root.with_name("moved"))
        assert not running.service.look()
        assert (features_of(running.post(input=TEXTS, language="fr")) == before).all()
        assert len(running.notes.said) == 1 and "served on" in running.notes.said[0]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    (folder / "below").mkdir()
    for name in ("a.png", "b.png", "below/c.png"):
        colour = (ord(name[-5]), 200, 3 * len(name))
        Image.new("RGB", (8, 8), colour).save(folder / name)
    return folder


def test_search_finds_pictures_by_their_paths_within_the_folder(tmp_path, photos):
    with serving(tmp_path, limits=Limits(hits=10)) as running:
        model = running.service.model
        assert running.refused(404, "/search", query="chat")["code"] == "no_pictures"
        running.service.index = index = index_pictures(model.workspace, photos, running.notes)
        response = running.post("/search", query=TEXTS, language=["fr", "de"], top=2)
        assert response.status_code == 200, response.text
        assert str(photos) not in response.text and str(tmp_path) not in response.text
        expected = index.search(offline(running, TEXTS, ["fr", "de"]), 2)
        for query, text, hits in zip(response.json()["queries"], TEXTS, expected, strict=True):
            assert query["query"] == text and query["delta"] == "noise"
            assert [one["rank"] for one in query["results"]] == [1, 2]
            assert [one["image"] for one in query["results"]] == [hit.name for hit in hits]
            scores = [one["score"] for one in query["results"]]
            assert scores == pytest.approx([hit.score for hit in hits], abs=1e-5)
        every = running.post("/search", query="chat", top=10).json()["queries"][0]["results"]
        assert {one["image"] for one in every} == {"a.png", "b.png", "below/c.png"}
        assert running.refused(413, "/search", query=["chat"] * 2, top=6)["param"] == "top"
        assert running.refused(400, "/search", query="chat", top=0)["param"] == "top"
        assert running.refused(400, "/search", query="chat", language="nl")["code"] == "no_delta"


def test_metrics_and_models_tell_what_there_is(tmp_path):
    with serving(tmp_path) as running:
        running.post(input=TEXTS, language="fr")
        running.post(input=TEXTS, language=["nl", "de"], fallback="base")
        running.post(input=TEXTS, language="nl")
        running.client.get("/wp-login.php")
        page = running.client.get("/metrics")
        assert page.headers["content-type"].startswith("text/plain")
        lines = page.text.splitlines()
        for line in (
            'xclipt_requests_total{path="/v1/embeddings",status="200"} 2.0',
            'xclipt_requests_total{path="/v1/embeddings",status="400"} 1.0',
            'xclipt_requests_total{path="other",status="404"} 1.0',
            'xclipt_texts_total{language="fr"} 2.0',
            'xclipt_texts_total{language="base"} 1.0',
            "xclipt_pass_texts_sum 4.0",
            "xclipt_queue_texts 0.0",
            "xclipt_languages 2.0",
        ):
            assert line in lines, page.text
        (model,) = running.client.get("/v1/models").json()["data"]
        assert (model["id"], model["languages"]) == ("tiny", ["de", "fr"])
        assert running.client.get("/healthz").status_code == 200
        running.service.stop()
        assert running.client.get("/healthz").status_code == 503
        error = running.refused(503, input="chat")
        assert error["code"] == "stopping"


def test_programs_may_read_what_there_is_to_ask(running):
    document = running.client.get("/openapi.json").json()
    assert {"/v1/embeddings", "/search", "/v1/models", "/healthz", "/metrics"} == set(
        document["paths"]
    )
    fields = document["components"]["schemas"]["EmbeddingsRequest"]["properties"]
    assert {"input", "language", "fallback", "truncate", "encoding_format"} <= fields.keys()
    assert fields["input"]["anyOf"][0] == {"type": "string"}, "one text will do"


def test_the_program_fails_in_openais_shape_too(tmp_path, monkeypatch):
    with serving(tmp_path) as running:
        monkeypatch.setattr(type(running.service), "name", property(lambda service: 1 / 0))
        error = running.refused(500, input="chat")
        assert error["code"] == "unexpected" and "division" not in error["message"]
        (said,) = running.notes.said
        assert said.startswith("unexpected ZeroDivisionError: division by zero (")
        assert "test_app.py:" in said, "where it arose"


def test_of_a_backbones_folder_its_name_alone_is_told(tmp_path):
    with serving(tmp_path) as running:
        identity = running.service.model.workspace.backbone.identity
        object.__setattr__(identity, "id", "/home/me/models/mine")
        assert running.post(input="chat").json()["model"] == "mine"
        assert "/home" not in running.client.get("/v1/models").text
