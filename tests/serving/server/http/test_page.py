"""The page: what it is made of, what it may load, and that a browser shows a model by it."""

import re
import shutil
import subprocess
from html import unescape

import pytest
from starlette.testclient import TestClient

from serving.server.http.app import create_app
from serving.server.http.exchange import PUBLIC
from serving.server.http.page import FILES, FOLDER
from serving.server.repository import Repository

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.parametrize("path", FILES)
def test_the_page_is_the_files_of_the_package(client, path):
    name, media_type = FILES[path]
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.content == (FOLDER / name).read_bytes()
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_file_is_served_and_none_names_another_host_or_runs_inline():
    assert {name for name, _ in FILES.values()} == {path.name for path in FOLDER.iterdir()}
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?://|[\"'(]//|@import|\son[a-z]+=|\sstyle=|<style|<script>", text), path.name


def test_every_control_has_a_label():
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    labels = set(re.findall(r'<label for="([^"]+)"', html))
    assert set(re.findall(r'<(?:input|select) id="([^"]+)"', html)) == labels - {"image"}
    assert 'aria-live="polite"' in html


def test_the_page_needs_no_token_and_what_it_shows_does(models):
    assert set(PUBLIC) == set(FILES)
    headers = {"Authorization": "Bearer secret-word"}
    with TestClient(create_app(Repository(models, threads=1), token="secret-word")) as client:
        assert [client.get(path).status_code for path in FILES] == [200] * len(FILES)
        for path in ("/page/models", "/page/models/tanh-model"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=headers).status_code == 200


def test_a_model_is_described_by_its_card_and_by_what_is_served(client):
    assert client.get("/page/models").json() == {"models": ["mirror-model", "tanh-model"]}
    found = client.get("/page/models/tanh-model").json()
    assert (found["summary"], found["license"], found["data"]["license"]) == (
        "A graph for tests.",
        "Apache-2.0",
        "CC0-1.0",
    )
    assert sorted(found["abilities"]) == ["encode", "generate"]  # reconstruct has no graph
    assert found["abilities"]["generate"]["inputs"][0]["feed"] == "normal"
    assert "there is no model 'dcgan'" in client.get("/page/models/dcgan").json()["error"]


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here: apt-get install chromium")
@pytest.mark.parametrize("model", ["tanh-model", "mirror-model"])
def test_a_browser_shows_the_model_and_an_image(start, tmp_path, model):
    server = start()
    address = f"http://127.0.0.1:{server.port}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--timeout=20000"]
    command = [BROWSER, *options, "--virtual-time-budget=10000", "--dump-dom", f"{address}/#{model}"]
    page = unescape(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert re.search(r'<p id="status"[^>]*>Done\.</p>', page)
    assert re.search(rf'<h1 id="about">{model}</h1>\s*<p id="summary">A graph for tests\.</p>', page)
    assert re.search(rf'<img id="image"[^>]*src="blob:{address}', page)
    assert f"{address}/v1/models/{model}:sample" in page
    assert ("drawn from the seed" in page) == (model == "mirror-model")
