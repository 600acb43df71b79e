"""``xclipt serve`` as a process, asked by OpenAI's own client; how it starts, and how it stops."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openai
import pytest
import torch
from PIL import Image

from tests.factories.deltas import store_shaken
from tests.factories.models import write_mclip_backbone
from tests.factories.running import run_xclipt
from tests.factories.serving import serving
from xclipt.backbones.registry import load_backbone
from xclipt.deltas.lora import LoraSpec
from xclipt.model import Model
from xclipt.progress import Silent
from xclipt.serving.server import is_reached_from_elsewhere, listening, read_keys, run, url_of
from xclipt.workspace import open_workspace

TEXTS = ["un chat noir", "ein Hund"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A directory with two deltas on a tiny backbone, pictures, and a key."""
    place = tmp_path_factory.mktemp("server")
    folder = write_mclip_backbone(place / "backbone")
    backbone = load_backbone(str(folder), torch.device("cpu"), torch.float32, Silent())
    for code in ("fr", "de"):
        store_shaken(place / "artifacts", backbone, LoraSpec(rank=2), language=code)
    (place / "photos").mkdir()
    for number in range(4):
        colour = (60 * number, 255 - 60 * number, 90)
        Image.new("RGB", (8, 8), colour).save(place / f"photos/{number}.png")
    (place / "keys").write_text("first\nsecond\n")
    return place


@contextmanager
def server(place: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that serves, and where."""
    command = [sys.executable, "-m", "xclipt", "serve", "--port", "0", "--json"]
    environment = {name: v for name, v in os.environ.items() if not name.startswith("XCLIPT_")}
    with subprocess.Popen(
        [*command, *map(str, arguments), "--artifacts", "artifacts"],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line == "}\n":
                    break
            assert lines, process.stderr.read()
            yield process, json.loads("".join(lines))["url"]
        finally:
            process.kill()


@pytest.mark.slow
def test_openais_client_is_served_and_a_signal_waits_for_its_answer(place):
    offline = Model(open_workspace(place / "artifacts")).encode_text(TEXTS, ["fr", "de"])
    given = ("--images", "photos", "--api-key-file", "keys")
    with server(place, *given) as (process, url):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="second", max_retries=0)
        extra = {"language": ["fr", "de"]}
        model = client.models.list().data[0].id
        packed = client.embeddings.create(model=model, input=TEXTS, extra_body=extra)
        assert np.array([one.embedding for one in packed.data]) == pytest.approx(offline, abs=1e-5)
        assert packed.usage.total_tokens == packed.usage.prompt_tokens > 4
        floats = client.embeddings.create(
            model=model, input=TEXTS, extra_body=extra, encoding_format="float"
        )
        assert [one.embedding for one in floats.data] == [one.embedding for one in packed.data]
        raw = client.embeddings.with_raw_response.create(model=model, input=TEXTS, extra_body=extra)
        assert isinstance(json.loads(raw.content)["data"][0]["embedding"], str), "base64 by default"
        with pytest.raises(openai.BadRequestError, match=r"fallback.*base") as caught:
            client.embeddings.create(model=model, input="x", extra_body={"language": "nl"})
        assert (caught.value.code, caught.value.param) == ("no_delta", "language")
        with pytest.raises(openai.NotFoundError, match=r"there is 'backbone'"):
            client.embeddings.create(model="text-embedding-3-large", input="x")
        with pytest.raises(openai.AuthenticationError, match="Bearer KEY"):
            client.with_options(api_key="third").models.list()
        found = client.post(
            f"{url}/search", cast_to=object, body={"query": "un chat", "language": "fr", "top": 2}
        )
        assert len(found["queries"][0]["results"]) == 2  # type: ignore[index]

        body = json.dumps({"input": TEXTS, "language": "fr"}).encode()
        with half_sent(url, body, "first") as send_rest:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            assert process.poll() is None, "it waits for who is being answered"
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(address(url), timeout=5)
            answer = send_rest()
        assert answer.startswith(b"HTTP/1.1 200") and answer.count(b'"embedding":') == 2
        assert process.wait(20) == 0
        assert process.stderr is not None
        err = process.stderr.read()
    assert "Stopped by SIGTERM" in err and "Traceback" not in err
    assert "second" not in err


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


@contextmanager
def half_sent(url, body, key):
    """A request of which a part is sent; what sends the rest gives the response."""
    with socket.create_connection(address(url), timeout=20) as connection:
        head = (
            "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body[:10])
        time.sleep(0.5)

        def rest():
            connection.sendall(body[10:])
            received = b""
            while part := connection.recv(2**16):
                received += part
            return received

        yield rest


def test_what_was_asked_before_a_signal_is_answered(tmp_path):
    """The same within this process."""
    answers: list[bytes] = []

    def ask(url: str) -> None:
        body = json.dumps({"input": TEXTS, "language": "fr"}).encode()
        with half_sent(url, body, "-") as send_rest:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.3)
            answers.append(send_rest())

    with serving(tmp_path) as running, listening("127.0.0.1", 0) as bound:
        asking = threading.Thread(target=ask, args=[url_of(bound)])
        assert run(running.app, bound, asking.start) == "SIGTERM"
        asking.join(10)
    assert answers[0].startswith(b"HTTP/1.1 200") and answers[0].count(b'"embedding":') == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("key", ["", "secret"])
def test_what_is_said_when_it_is_ready(place, monkeypatch, host, key):
    monkeypatch.chdir(place)
    monkeypatch.setenv("XCLIPT_API_KEY", key)
    monkeypatch.setattr("xclipt.serving.server.run", lambda app, bound, ready: ready() or "SIGTERM")
    given = ("serve", "--port", "0", "--host", host, "--artifacts", "artifacts")
    done = run_xclipt(*given, "--images", "photos")
    assert done.code == 0, done.err
    assert re.fullmatch(
        rf"backbone, deltas of de, fr, 4 pictures of photos: http://{host}:\d+\n", done.out
    )
    assert ("give --api-key-file" in done.err) is (host == "0.0.0.0" and not key)
    assert "secret" not in done.err
    document = run_xclipt(*given, "--json").json()
    assert document["command"] == "serve" and document["languages"] == ["de", "fr"]
    assert document["pictures"] is None and document["url"].startswith(f"http://{host}:")


@pytest.mark.slow
def test_a_second_signal_is_not_waited_for(place):
    with server(place) as (process, url), half_sent(url, b"x" * 100, "-"):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr is not None
        err = process.stderr.read()
        assert "Traceback" not in err and "/v1/embeddings was not answered" in err


def test_a_port_that_is_taken_shows_before_the_model_is_loaded(place, monkeypatch):
    monkeypatch.chdir(place)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_xclipt("serve", "--port", port, "--artifacts", "artifacts")
    assert done.code == 2 and f"--port {port}: is in use already" in done.err
    assert "backbone" not in done.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--images", "none"), "--images none: no such folder"),
        (("--images", "artifacts"), "no pictures in it"),
        (("--lang", "germn"), "--lang germn"),
        (("--lang", "fr,de"), "name one language"),
        (("--fallback", "best"), "--fallback best: choose error or base"),
        (("--host", "no.such.host.invalid"), "--host no.such.host.invalid: is no address"),
        (("--host", "192.0.2.1"), "--host 192.0.2.1: cannot listen there"),
        (("--port", "65536"), "65535"),
        (("--max-inputs", "0"), "--max-inputs"),
        (("--api-key-file", "none"), "--api-key-file none: cannot read"),
        (("--api-key-file", "empty"), "--api-key-file empty: has no key"),
        (("--api-key-file", "photos/0.png"), "--api-key-file photos/0.png: keys are of ASCII"),
        (("--api-key-file", "photos"), "--api-key-file photos: cannot read"),
    ],
    ids=str,
)
def test_wrong_usage(place, monkeypatch, arguments, part):
    monkeypatch.chdir(place)
    (place / "empty").write_text("\n")
    done = run_xclipt("serve", "--port", "0", *arguments, "--artifacts", "artifacts")
    assert done.code == 2 and part in done.err and not done.out
    assert len([line for line in done.err.splitlines() if line.startswith("xclipt: ")]) == 1


def test_without_the_extra_it_is_named(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    done = run_xclipt("serve", "--port", "0", "--artifacts", "artifacts")
    assert done.code == 1
    assert done.err == ("xclipt: prometheus_client is not installed: pip install 'xclipt[serve]'\n")


def test_it_is_open_to_this_machine_alone_unless_told(tmp_path):
    with listening("127.0.0.1", 0) as bound:
        assert not is_reached_from_elsewhere(bound)
        assert url_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"
    with listening("0.0.0.0", 0) as bound:
        assert is_reached_from_elsewhere(bound)
    with listening("localhost", 0) as bound:
        assert not is_reached_from_elsewhere(bound)
    (tmp_path / "keys").write_text("one\n\n two \n")
    assert read_keys(tmp_path / "keys") == ["one", "two"]
