"""The web demo as visitors use it: the app runs in a separate process and is operated in Chromium.

NNIT_SCREENSHOTS=docs/images .venv/bin/python -m pytest tests/browser/test_space_browser.py    # also takes pictures
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from safetensors.torch import load_file

from nnit_diffusers.tasks.maniskill.environments import NoVulkanDeviceError, check_simulator


ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
VIEWPORTS = {"desktop": {"width": 1180, "height": 900}, "phone": {"width": 375, "height": 812}}
# A 3, as fractions of the canvas.
STROKES = [(0.3, 0.2), (0.6, 0.18), (0.66, 0.32), (0.46, 0.46), (0.68, 0.6), (0.62, 0.78), (0.3, 0.8)]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: run scripts/install_chromium.sh")


@pytest.fixture(scope="module")
def app(tmp_path_factory, pushcube_folder):
    """Address of the running demo, and the folder of its temporary files."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = tmp_path_factory.mktemp("files")
    log = tmp_path_factory.mktemp("log") / "app.log"
    names = f"nnit/digits,{pushcube_folder}"
    environment = {**os.environ, "TMPDIR": str(files), "NNIT_MODELS": names, "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "space/app.py", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/", process, log)
        yield f"http://127.0.0.1:{port}/", files
    finally:
        process.terminate()
        process.wait(timeout=60)
    assert [path.name for path in files.glob("nnit-space-*")] == []


def wait_for(address, process, log):
    for _ in range(900):
        try:
            urllib.request.urlopen(address, timeout=10).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    raise AssertionError(f"The demo did not start: {log.read_text()}")


class Visit:
    """A page with the hosts it requested and the errors it logged."""

    def __init__(self, page):
        self.page, self.hosts, self.errors = page, set(), []
        page.set_default_timeout(60_000)
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname))
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def check_fits(self):
        """Checks that the page fits the screen, without horizontal scrolling."""
        width, screen = self.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert width <= screen

    def draw(self):
        """Draws a digit with the mouse."""
        canvas = self.page.locator("#canvas canvas")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in STROKES]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point, steps=4)
        self.page.mouse.up()

    def download(self, kind, folder):
        with self.page.expect_download() as started:
            self.page.locator(f"#download-{kind}").click()
        path = folder / started.value.suggested_filename
        started.value.save_as(path)
        return path

    def screenshot(self, name):
        """Takes a picture of the full page for the docs, if `NNIT_SCREENSHOTS` is set."""
        if folder := os.environ.get("NNIT_SCREENSHOTS"):
            self.page.mouse.move(0, 0)
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=Path(folder) / f"space-{name}.png", full_page=True)


@pytest.fixture(params=VIEWPORTS, ids=str)
def visit(request, app, tmp_path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            args=FLAGS,
            viewport=VIEWPORTS[request.param],
            has_touch=request.param == "phone",
            color_scheme="light",
        )
        visit = Visit(context.pages[0])
        visit.name, visit.folder = request.param, tmp_path
        visit.page.goto(app[0])
        yield visit
        context.close()


def test_a_visitor_can_generate_draw_compare_and_download(visit, app, tmp_path):
    page = visit.page
    page.locator("#generate").click()
    # the architecture that the page begins with: half of the largest width
    first = second = 128
    page.locator("#card .sizes", has_text=str(first)).wait_for()
    card = page.locator("#card").inner_text()
    parameters = 65 * first + (first + 1) * second + (second + 1) * 10
    assert f"{parameters:,}" in card and "a shape like those in the training data" in card
    accuracy = float(re.search(r"Accuracy\s+([\d.]+)%", card)[1])
    low, high = map(float, re.search(r"95% interval ([\d.]+) to ([\d.]+)%", card).groups())
    assert 90 < low < accuracy < high <= 100
    sizes = page.locator("#card .heat-map img").evaluate_all("all => all.map(i => [i.naturalWidth, i.naturalHeight])")
    assert sizes == [[64, first], [first, second], [second, 10]]

    visit.draw()
    page.locator("#readings li").nth(3).wait_for()
    read = [text.strip() for text in page.locator("#readings li strong").all_inner_texts()]
    assert read == ["3"] * 4
    visit.check_fits()
    visit.screenshot(visit.name)

    weights = load_file(visit.download("safetensors", tmp_path))
    assert sum(tensor.numel() for tensor in weights.values()) == parameters
    assert visit.download("onnx", tmp_path).stat().st_size > 4 * parameters

    page.get_by_text("The model chooses, within a budget").click()
    page.locator("#budget").wait_for()
    before = page.locator("#card .sizes").inner_text()
    page.locator("#generate").click()
    page.wait_for_function("text => document.querySelector('#card .sizes')?.innerText !== text", arg=before)
    chosen = int(re.search(r"Parameters\s+([\d,]+)", page.locator("#card").inner_text())[1].replace(",", ""))
    settings = json.loads((ROOT / "nnit/digits/evaluation.json").read_text())["settings"]
    assert chosen <= settings["max_parameters"]

    page.get_by_role("tab", name="Compare sizes").click()
    page.locator("#compare").click()
    page.locator("#comparison tbody tr").nth(3).wait_for()
    counts = [
        int(text.replace(",", "")) for text in page.locator("#comparison tbody td:nth-child(2)").all_inner_texts()
    ]
    assert counts == sorted(counts) and len(set(counts)) == 4
    assert page.locator("#comparison .plot").evaluate("image => image.naturalWidth") > 300
    visit.check_fits()

    assert visit.hosts == {"127.0.0.1"}
    assert visit.errors == []

    for box in page.get_by_role("checkbox", checked=True).all()[::-1]:
        box.uncheck()
    page.locator("#compare").click()
    page.get_by_text("Choose 1 to 6 widths to compare.").wait_for()


@pytest.mark.parametrize("visit", ["phone"], indirect=True)
def test_a_robot_is_filmed_if_the_simulator_runs(visit, pushcube_folder):
    page = visit.page
    page.locator("#task input").click()
    page.get_by_role("option", name="pushcube").click()
    page.locator("#canvas canvas").wait_for(state="hidden")
    page.locator("#generate").click()
    page.locator("#card .sizes", has_text="35").wait_for()
    try:
        check_simulator()
    except NoVulkanDeviceError:
        page.get_by_text("This machine cannot run the robot simulator").wait_for()
    else:
        page.locator("#video video").wait_for(timeout=300_000)
        page.wait_for_function("document.querySelector('#video video').readyState >= 2", timeout=60_000)
        assert "Success" in page.locator("#card").inner_text()
        assert re.search(r"\d of 2 episodes succeed", page.locator("#video").inner_text())
    visit.check_fits()
    assert visit.hosts == {"127.0.0.1"}
    assert visit.errors == []


def test_uploads_are_refused(app):
    boundary = "nnit"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n{'x' * 1000}\r\n--{boundary}--\r\n"
    ).encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    request = urllib.request.Request(f"{app[0]}gradio_api/upload", body, headers)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=30)
    assert not list(app[1].rglob("a.bin"))


def test_the_api_has_no_named_endpoints(app):
    with urllib.request.urlopen(f"{app[0]}gradio_api/info", timeout=30) as response:
        assert json.load(response)["named_endpoints"] == {}
