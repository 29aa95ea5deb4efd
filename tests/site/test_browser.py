"""Every page in a real browser, at the width of a desk and of a phone (extra `browser`, and Chromium)."""

import functools
import http.server
import importlib.util
import json
import math
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from ssmbook.cli import main
from ssmbook.cli.site import ROOT
from ssmbook.events import Events
from ssmbook.ssm import S5, frequency_response

axe = pytest.importorskip("axe_playwright_python")
pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("myst")), reason="needs Node and mystmd"
)
SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}
# What a page shows once it is laid out; pictures are waited for, since they load when scrolled to.
LOOK = """async () => {
  const pictures = [...document.images].filter((image) => !image.closest('.moving'));
  pictures.forEach((image) => (image.loading = 'eager'));
  await Promise.all(pictures.map((image) => image.decode().catch(() => 0)));
  const folded = (e) => e.closest('details:not([open])');
  const flat = (selector) => [...document.querySelectorAll(selector)]
    .filter((e) => !folded(e) && e.getBoundingClientRect().height < 6)
    .map((e) => e.outerHTML.slice(0, 90));
  return {
    blank: pictures.filter((image) => !image.naturalWidth).map((image) => image.src),
    flat: flat('article math, article table, article figure, article pre'),
    wide: document.documentElement.scrollWidth - innerWidth,
    title: document.querySelectorAll('h1').length,
    silent: pictures.filter((image) => !image.alt).map((image) => image.src),
    unset: [...document.querySelectorAll('article merror, article .katex-error')].length,
    source: [...document.querySelectorAll('article :is(p, figcaption, td, dd, h2)')].map((e) => e.innerText)
      .filter((words) => /[{](eq|numref|term)[}]|\\\\(frac|bar|lambda)/.test(words)),
  };
}"""


@pytest.fixture(scope="module")
def address(site):
    """The book's pages, served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def failed(name: str, request) -> list[str]:
    """A request that did not succeed; none where the test itself has left the page before it was answered."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"{name}: {request.url}"]


@pytest.fixture
def open_page(address, chromium):
    """``open_page(name, size, scheme)``: a page, which must not have logged a word when the test ends."""
    contexts, said = [], []

    def open_one(name: str, size: str = "desk", scheme: str = "light"):
        context = chromium.new_context(viewport=SIZES[size], color_scheme=scheme, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{name}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"{name}: {error}"))
        page.on("requestfailed", lambda request: said.extend(failed(name, request)))
        page.goto(f"{address}/{name}")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not said


def names() -> list[str]:
    """All pages, in the order of their names."""
    return sorted(path.name for path in (ROOT / "_build" / "html").glob("*.html"))


@pytest.mark.parametrize("size", SIZES)
def test_every_page_shows_its_figures_math_and_tables(open_page, size):
    page = open_page("index.html", size)
    for name in names():
        page.goto(page.url.rsplit("/", 1)[0] + f"/{name}")
        seen = {"blank": [], "flat": [], "wide": 0, "title": 1, "silent": [], "unset": 0, "source": []}
        assert page.evaluate(LOOK) == seen, name


def violations(page) -> list:
    """What axe-core finds at level AA: rule and elements."""
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text())
    options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]}
    found = page.evaluate(f"axe.run(document, {json.dumps(options)})")["violations"]
    return [(rule["id"], [node["html"][:200] for node in rule["nodes"][:3]]) for rule in found]


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("desk", "dark"), ("phone", "dark")])
def test_every_page_passes_axe_at_level_aa(open_page, size, scheme):
    page = open_page("index.html", size, scheme)
    chosen = [name for name in names() if not name.startswith("api-")] + ["api-ssm.html"]  # one for its kind
    for name in chosen if scheme == "light" else ["moving.html", "notation.html", chosen[-2], "api-ssm.html"]:
        page.goto(page.url.rsplit("/", 1)[0] + f"/{name}")
        assert not violations(page), name


def test_axe_sees_pale_text(open_page):
    page = open_page("preface.html")
    page.add_style_tag(content="article p { color: #bbb }")
    assert [rule for rule, _ in violations(page)] == ["color-contrast"]


class TestReader:
    def test_finds(self, open_page):
        page = open_page("index.html")
        page.keyboard.press("/")
        page.get_by_role("searchbox").fill("hippo legs")
        page.wait_for_selector("#search li a")
        first = page.locator("#search li a").first
        assert "HiPPO" in first.text_content()
        page.keyboard.press("Enter")
        page.wait_for_url("**/*.html#*")
        assert page.evaluate("document.querySelector(location.hash) !== null")

    def test_finds_nothing_for_nonsense(self, open_page):
        page = open_page("index.html")
        page.get_by_role("button", name="Search").click()
        page.get_by_role("searchbox").fill("xyzzyplugh")
        page.get_by_text("Nothing found.").wait_for()

    def test_reads_with_the_keyboard_alone(self, open_page):
        page = open_page("preface.html")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('article') !== null")
        page.get_by_role("link", name="Zubić et al. (2024)").focus()
        page.wait_for_selector("#preview:not([hidden])")
        assert "State Space Models for Event Cameras" in page.text_content("#preview")
        page.keyboard.press("Escape")
        page.wait_for_selector("#preview", state="hidden")

    def test_sees_what_a_reference_means_on_hover(self, open_page):
        page = open_page("moving.html")
        page.get_by_role("link", name="Smith et al., 2023").hover()
        page.wait_for_selector("#preview:not([hidden])")
        assert "Simplified State Space Layers" in page.text_content("#preview")

    def test_keeps_the_scheme(self, open_page):
        page = open_page("index.html")
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.get_by_role("button", name="Light or dark").click()
        page.goto(page.url.replace("index", "preface"))
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before

    def test_opens_the_contents_on_a_phone(self, open_page):
        page = open_page("index.html", "phone")
        assert not page.locator("#toc").is_visible()
        page.get_by_role("button", name="Table of contents").click()
        page.locator("#toc").get_by_role("link", name="Preface").click()
        page.wait_for_url("**/preface.html")

    @pytest.mark.parametrize("size", SIZES)
    def test_enlarges_a_figure_by_the_keyboard_and_returns_to_it(self, open_page, size):
        page = open_page("events.html", size)
        link, shown = page.locator("figure .larger").first, page.locator("#large img")
        link.focus()
        page.keyboard.press("Enter")
        shown.wait_for()
        assert shown.bounding_box()["width"] >= 768
        assert not violations(page)
        page.keyboard.press("Escape")
        shown.wait_for(state="hidden")
        assert page.evaluate("document.activeElement.className") == "larger"

    def test_copies_code(self, open_page):
        page = open_page("state-space-layers.html" if "state-space-layers.html" in names() else "index.html")
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        block = page.locator(".code").first
        block.hover()
        block.get_by_role("button", name="Copy").click()
        block.get_by_role("button", name="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == block.locator("code").text_content()


class TestMovingFigures:
    @pytest.mark.parametrize("method", ["bilinear", "zoh"])
    @pytest.mark.parametrize(("scale", "alpha"), [(1.0, None), (0.1, None), (0.25, 0.5), (1.0, 0.2)])
    def test_compute_what_the_library_does(self, open_page, method, scale, alpha):
        page = open_page("moving.html")
        page.wait_for_function("window.MOVING")
        data = page.evaluate("MOVING.layer")
        layer = S5(width=1, state_width=len(data["step"]), discretization=method, bandlimit=alpha).double()
        values = {name: torch.tensor(data[name], dtype=torch.float64) for name in ("Lambda", "B", "C")}
        with torch.no_grad():
            layer.Lambda.copy_(values["Lambda"])
            layer.B.copy_(values["B"][:, None])
            layer.C.copy_(values["C"][None])
            layer.log_step.copy_(torch.tensor(data["step"], dtype=torch.float64).log())
            impulse = torch.zeros(1, 40, 1, dtype=torch.float64)
            impulse[0, 0] = 1
            kernel = (layer(impulse, step_scale=scale)[0] - layer.D * impulse)[0, :, 0]
            omega = torch.linspace(0, math.pi, 9, dtype=torch.float64)
            gain = frequency_response(layer, omega, scale).abs().flatten()
        limit = "Infinity" if alpha is None else alpha
        modes = f"moving.discretise(MOVING.layer, {scale}, '{method}', {limit})"
        assert page.evaluate(f"moving.kernel({modes}, 40)") == pytest.approx(
            kernel.tolist(), rel=1e-6, abs=1e-9
        )
        shown = page.evaluate(f"{omega.tolist()}.map((w) => moving.gain({modes}, w))")
        assert shown == pytest.approx(gain.tolist(), rel=1e-6, abs=1e-9)

    @pytest.mark.parametrize(("hz", "scale"), [(20, 1.0), (200, 0.1), (200, 1.0)])
    def test_hold_a_stopping_car_as_the_recurrence_does(self, open_page, hz, scale):
        spec = importlib.util.spec_from_file_location("moving_data", ROOT / "pages" / "moving.py")
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        page = open_page("moving.html")
        page.wait_for_function("window.MOVING")
        columns = page.evaluate(
            "(({ t, x, y, p }) => [t, x, y, p].map((c) => Array.from(c)))(moving.events(MOVING.stop))"
        )
        kinds = np.int64, np.uint16, np.uint16, np.uint8
        events = Events(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))
        state = made.states(events, hz, scale, tau_s=1.0, until_us=1_200_000)
        shown = page.evaluate(
            f"Array.from(moving.states(moving.events(MOVING.stop), {hz}, {scale}, 1000, 1200))"
        )
        np.testing.assert_allclose(shown, state.flatten(), rtol=1e-9, atol=1e-12)

    def test_move(self, open_page):
        page = open_page("moving.html")
        for figure in page.locator("figure.moving").all():
            canvas = figure.locator("canvas")
            canvas.wait_for()
            before = canvas.evaluate("(c) => c.toDataURL()")
            figure.get_by_label("Rate").focus()
            page.keyboard.press("ArrowRight")
            assert canvas.evaluate("(c) => c.toDataURL()") != before

    def test_stand_still_without_scripts(self, address, chromium):
        context = chromium.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(f"{address}/moving.html")
        pictures = page.locator("figure.moving img")
        assert pictures.count() == 3
        assert all(picture.is_visible() for picture in pictures.all())
        context.close()


def test_the_pdf_has_every_page_figures_and_numbered_contents(small_book):
    pypdf = pytest.importorskip("pypdf")
    root = small_book()
    assert main(["site", "--pdf", "--root", str(root)]) == 0
    reader = pypdf.PdfReader(root / "_build" / "book.pdf")
    texts = [page.extract_text() for page in reader.pages]
    assert "Small book" in texts[0]
    for number, title in ((3, "Layers"), (4, "More")):
        place = next(n for n, text in enumerate(texts, 1) if f"\nCHAPTER {number}\n" in text)
        assert re.search(rf"{number}\s*{title}\s*{place}\b", texts[1]), texts[1]
    words = " ".join(texts).replace("\xa0", " ")
    assert all(
        label in words for label in ("Figure 3.1. Modes", "Table 3.1. Results", "(3.1)", "Exercise 3.1")
    )
    assert "answer = 42" in words  # folded on the site, open on paper
    assert sum(len(page.images) for page in reader.pages) == 2
    assert reader.outline
