"""The explorer in headless Chromium: what is seen, that it follows the controls, that the numbers
are Python's, and that nothing leaves the page's own origin.
"""

import functools
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest

import caloforge
from caloforge.data import read_showers
from caloforge.errors import CaloForgeError
from caloforge.explore import ExplorerServer, find_runtime, load_explored, write_site
from caloforge.explore.page import FILES
from caloforge.noise import normals

PACKAGE = Path(caloforge.__file__).parent
CHROMIUM = next(
    (p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None or find_spec("playwright") is None,
        reason="needs Chromium and the package playwright",
    ),
]
# WebGL in software: a machine without a graphics card has no other.
FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
MODELS = ["caloshowergan-photon", "flow-matching-photon", "calogan-eplus", "lcd-mlp"]
SITE_MODEL = "caloshowergan-photon"
READY = "explorer.firstPicture > 0"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[ExplorerServer]:
    with ExplorerServer(load_explored(MODELS)) as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a static site."""
    folder = tmp_path_factory.mktemp("static") / "site"
    try:
        find_runtime()
    except CaloForgeError as error:
        pytest.skip(str(error))
    write_site(load_explored([SITE_MODEL]), folder)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_address[1]}/"
        listener.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class Visit:
    """A page that was opened, and all that it asked for and complained about."""

    def __init__(self, page: Any, url: str, first: str = READY) -> None:
        self.page, self.asked, self.complaints = page, [], []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._listen)
        page.goto(url)
        self.wait(f"!!window.explorer && {first}")

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning") and "GPU stall" not in message.text:
            self.complaints.append(message.text)

    def wait(self, condition: str) -> None:
        """Until a condition holds in the page and nothing is being made."""
        for _ in range(600):
            if self.page.evaluate(f"({condition}) && !explorer.working"):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"still not: {condition}; {self.page.inner_text('#message')}")

    def until(self, done: Callable[[], bool]) -> None:
        """Until something has happened outside the page."""
        for _ in range(600):
            if done():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError("it has not happened")

    def energies(self, pane: int = 0) -> np.ndarray:
        """All showers of a pane, (n, V)."""
        count, values = self.page.evaluate(
            f"(s => [s.count, Array.from(s.all)])(explorer.shown[{pane}])"
        )
        return np.array(values, np.float32).reshape(count, -1)

    def picture(self) -> str:
        """The picture in three dimensions, as text."""
        return self.page.evaluate("explorer.panes[0].scene.copy().toDataURL()")

    def slide(self, name: str, place: int) -> None:
        """Move the slider of a condition to a place between 0 and 1000."""
        self.page.locator(f"[data-condition={name}]").fill(str(place))
        self.wait("true")


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def open_page(
        url: str, *, hold: tuple[str, list[Any]] | None = None, first: str = READY, **settings: Any
    ) -> Visit:
        """`hold` keeps back what is asked for by these addresses, in the list given with them."""
        settings.setdefault("viewport", {"width": 1300, "height": 900})
        page = chromium.new_context(accept_downloads=True, **settings).new_page()
        if hold is not None:
            address, held = hold
            page.route(address, lambda route: held.append(route))
        visits.append(Visit(page, url, first))
        return visits[-1]

    yield open_page
    for each in visits:
        origin = "/".join(each.page.url.split("/")[:3]) + "/"
        foreign = [u for u in each.asked if not u.startswith((origin, "data:", "blob:"))]
        assert foreign == [] and each.complaints == []
        each.page.context.close()


def test_sliders_change_picture_and_numbers(visit: Callable[..., Visit], server: Any) -> None:
    seen = visit(server.url)
    picture, table = seen.picture(), seen.page.inner_text("#table")
    assert "Geant4" in table and "response" in table
    seen.slide("energy", 900)
    assert seen.picture() != picture
    assert seen.page.inner_text("#table") != table
    value = float(seen.page.input_value("#c-energy"))
    assert value == pytest.approx(256 * (4194304 / 256) ** 0.9, rel=1e-4)
    # Geant4's band follows: few showers are there at the highest energies.
    assert "TeV" in seen.page.inner_text("#band")


def test_showers_are_those_of_python(visit: Callable[..., Visit], server: Any) -> None:
    seen = visit(f"{server.url}#model={SITE_MODEL}&c.energy=65536&seed=7&shower=254&average=10")
    found = seen.energies()
    noise = seen.page.evaluate(
        "Array.from(explorer.inputs(explorer.model, [65536], 7n, 254, 10).noise)"
    )
    assert np.abs(np.array(noise) - normals(7, 254, 264, 100).ravel()).max() < 1e-6
    generator = caloforge.Generator(SITE_MODEL, seed=7, engine="torch")
    expected = np.stack([generator.one(k, energy=65536.0) for k in range(254, 264)])
    assert np.abs(found - expected).max() <= 1e-4 * expected.sum(axis=1).max()


def test_the_static_site_makes_the_same_showers(visit: Callable[..., Visit], site: str) -> None:
    seen = visit(f"{site}#model={SITE_MODEL}&c.energy=65536&seed=7&shower=3")
    assert "in this browser" in seen.page.inner_text("#version")
    generator = caloforge.Generator(SITE_MODEL, seed=7, engine="torch")
    expected = generator.one(3, energy=65536.0)
    assert np.abs(seen.energies()[0] - expected).max() <= 1e-4 * expected.sum()
    seen.slide("energy", 300)
    energy = float(seen.page.input_value("#c-energy"))
    expected = generator.one(3, energy=energy)
    assert np.abs(seen.energies()[0] - expected).max() <= 1e-4 * expected.sum()
    assert not seen.page.is_visible("#hdf5")


def test_a_static_site_tells_what_is_wrong(visit: Callable[..., Visit], site: str) -> None:
    """A model that was not loaded is asked for again, and what is no number is not shown."""
    late: list[Any] = []
    seen = visit(site, hold=("**/*.onnx", late), first="true")
    seen.until(lambda: len(late) == 1)
    late[0].fulfill(status=404)
    seen.page.wait_for_selector("#message:not([hidden])")
    assert "cannot run" in seen.page.inner_text("#message")
    seen.complaints.clear()
    seen.page.click("#another")
    seen.until(lambda: len(late) == 2)
    late[1].continue_()
    seen.wait(READY)
    assert not seen.page.is_visible("#message")
    seen.page.evaluate(
        "explorer.backend.sessions.set(explorer.model.name, Promise.resolve("
        "{run: async () => ({energies: {data: new Float32Array(368).fill(NaN)}})}))"
    )
    seen.page.click("#another")
    seen.page.wait_for_selector("#message:not([hidden])")
    assert "no numbers under this condition" in seen.page.inner_text("#message")


def test_a_link_holds_the_state(visit: Callable[..., Visit], server: Any) -> None:
    seen = visit(f"{server.url}#model=calogan-eplus")
    seen.slide("x0", 800)
    seen.page.fill("#seed", "12")
    seen.page.press("#seed", "Enter")
    seen.page.locator("#average").get_by_text("10", exact=True).click()
    seen.page.select_option("#beside", "geant4")
    seen.wait("explorer.shown.length === 2 && explorer.shown[0].count === 10")
    link = seen.page.evaluate("explorer.link()")
    state = parse_qs(link.split("#")[1])
    assert state["model"] == ["calogan-eplus"] and state["seed"] == ["12"]
    assert state["average"] == ["10"] and state["beside"] == ["geant4"]
    again = visit(link)
    assert np.array_equal(again.energies(), seen.energies())
    assert np.array_equal(again.energies(1), seen.energies(1))
    assert again.page.evaluate("explorer.link()") == link


def test_a_link_that_makes_no_sense_is_the_first_picture(
    visit: Callable[..., Visit], server: Any
) -> None:
    seen = visit(f"{server.url}#model=none&c.energy=-5&seed=x&shower=-1&average=7&view=a&layer=99")
    assert seen.page.evaluate("explorer.link()").split("#")[1].startswith(f"model={SITE_MODEL}&")
    assert float(seen.page.input_value("#c-energy")) > 0


def test_all_by_keyboard(visit: Callable[..., Visit], server: Any) -> None:
    seen = visit(f"{server.url}#model=calogan-eplus")
    seen.page.focus("[data-condition=energy]")
    before = seen.page.input_value("#c-energy")
    seen.page.keyboard.press("ArrowRight")
    seen.wait("true")
    assert float(seen.page.input_value("#c-energy")) > float(before)
    seen.page.focus(".dial")
    seen.page.keyboard.press("PageUp")
    seen.wait("true")
    assert float(seen.page.input_value("#c-phi")) == pytest.approx(np.pi / 6, abs=0.02)
    picture = seen.picture()
    seen.page.focus(".scene canvas")
    seen.page.keyboard.press("ArrowLeft")
    seen.page.keyboard.press("+")
    assert seen.picture() != picture
    seen.page.keyboard.press("Home")
    assert seen.picture() == picture
    first = seen.energies()
    seen.page.focus("#another")
    seen.page.keyboard.press("Enter")
    seen.wait("explorer.state.number === 1")
    assert not np.array_equal(seen.energies(), first)
    # Every control can be reached, and every one has a name.
    names = seen.page.evaluate(
        "Array.from(document.querySelectorAll('button, input, select, canvas, [tabindex=\"0\"]'))"
        ".filter(e => e.checkVisibility()).map(e => e.ariaLabel || e.getAttribute('aria-label') ||"
        " e.labels?.[0]?.innerText || e.innerText)"
    )
    assert all(names), names


def test_another_detector_while_showers_are_made(visit: Callable[..., Visit], server: Any) -> None:
    seen = visit(server.url)
    for name in ("lcd-mlp", "calogan-eplus", "flow-matching-photon", "calogan-eplus"):
        seen.page.evaluate("explorer.refresh()")
        seen.page.select_option("#model", name)
    seen.wait(
        "explorer.model.name === 'calogan-eplus' && explorer.shown[0]?.energies.length === 504"
    )
    assert "calogan-eplus" in seen.page.locator(".pane h2").first.inner_text()


def test_the_model_chosen_last_is_shown(visit: Callable[..., Visit], server: Any) -> None:
    """Also where the Geant4 showers of the one chosen before arrive later than its own."""
    seen = visit(f"{server.url}#model=caloshowergan-photon")
    late: list[Any] = []
    seen.page.route("**/reference-lcd.bin", lambda route: late.append(route))
    for name in ("lcd-mlp", "calogan-eplus"):
        seen.page.select_option("#model", name)
    seen.wait("explorer.model.name === 'calogan-eplus'")
    assert len(late) == 1
    late[0].continue_()
    seen.page.wait_for_timeout(1000)
    seen.wait("explorer.model.name === 'calogan-eplus'")
    assert seen.page.locator(".pane h2").first.inner_text() == "calogan-eplus"
    assert seen.page.input_value("#model") == "calogan-eplus"


def test_numbers_are_of_the_condition_of_their_shower(
    visit: Callable[..., Visit], server: Any
) -> None:
    """Also while a slider is moved on before the shower is there, and when the next one fails."""
    seen = visit(f"{server.url}#model=calogan-eplus&c.energy=10000")
    late: list[Any] = []
    seen.page.route("**/generate*", lambda route: late.append(route))
    seen.page.evaluate("explorer.refresh()")
    seen.until(lambda: len(late) == 1)
    seen.page.evaluate("explorer.move(0, 90000)")
    late[0].continue_()
    seen.until(lambda: len(late) == 2)
    late[1].fulfill(status=500, body="The model is tired.")
    seen.wait("true")
    seen.complaints.clear()  # Chromium's own line about the status
    assert "tired. The page still shows the shower before" in seen.page.inner_text("#message")
    incident, response = seen.page.evaluate(
        "(s => [s.incident, s.response])(explorer.shown[0].summary)"
    )
    assert incident == 10000 and 0.9 < response < 1.1
    with seen.page.expect_download() as waiting:
        seen.page.click("#csv")
    assert "energy = 10000 MeV" in Path(waiting.value.path()).read_text()


def test_nothing_of_another_detector_is_shown(visit: Callable[..., Visit], server: Any) -> None:
    """When no shower of a model just chosen can be made."""
    seen = visit(f"{server.url}#model=calogan-eplus")
    seen.page.route("**/generate*", lambda route: route.fulfill(status=500, body="No."))
    seen.page.select_option("#model", "lcd-mlp")
    seen.wait("explorer.model.name === 'lcd-mlp'")
    seen.complaints.clear()
    assert seen.page.inner_text("#message") == "No."
    assert seen.page.evaluate("explorer.shown.length") == 0
    assert not seen.page.is_visible("#table")
    assert seen.page.is_disabled("#csv") and seen.page.is_disabled("#png")
    seen.page.click("#theme")
    seen.page.unroute("**/generate*")
    seen.page.click("#another")
    seen.wait("explorer.shown.length === 1")
    assert seen.page.is_visible("#table") and not seen.page.is_visible("#message")


def test_a_click_before_the_first_picture(visit: Callable[..., Visit], server: Any) -> None:
    late: list[Any] = []
    seen = visit(
        f"{server.url}#model=calogan-eplus", hold=("**/reference-*.bin", late), first="true"
    )
    for button in ("#another", "#theme", "#reset", "#another"):
        seen.page.click(button)
    for route in late:
        route.continue_()
    seen.wait("explorer.firstPicture > 0")


def test_a_link_that_is_opened_during_a_blind_test(
    visit: Callable[..., Visit], server: Any
) -> None:
    seen = visit(f"{server.url}#model=calogan-eplus")
    seen.page.click("#blind")
    seen.wait("explorer.shown[0].title === 'A'")
    # The condition of a test is Geant4's, not that of the page.
    assert seen.page.is_disabled("#csv") and seen.page.is_disabled("#hdf5")
    seen.page.evaluate("location.hash = 'model=lcd-mlp'")
    seen.wait("explorer.model.name === 'lcd-mlp' && explorer.shown[0]?.title === 'lcd-mlp'")
    assert not seen.page.is_visible("#test") and not seen.page.is_disabled("#csv")


def test_geant4_showers_that_were_not_loaded_are_asked_for_again(
    visit: Callable[..., Visit], server: Any
) -> None:
    seen = visit(f"{server.url}#model={SITE_MODEL}")
    seen.page.route("**/reference-lcd.bin", lambda route: route.fulfill(status=404))
    seen.page.select_option("#model", "lcd-mlp")
    seen.page.wait_for_selector("#message:not([hidden])")
    assert "cannot be loaded" in seen.page.inner_text("#message")
    assert seen.page.input_value("#model") == SITE_MODEL
    seen.complaints.clear()
    seen.page.unroute("**/reference-lcd.bin")
    seen.page.select_option("#model", "lcd-mlp")
    seen.wait("explorer.model.name === 'lcd-mlp' && explorer.shown.length === 1")


def test_a_mistake_that_was_mended_is_marked_no_more(
    visit: Callable[..., Visit], server: Any
) -> None:
    seen = visit(f"{server.url}#model=calogan-eplus")
    for name, text in (("#c-energy", ""), ("#seed", "x"), ("#number", "-3")):
        seen.page.fill(name, text)
        seen.page.press(name, "Tab")
        assert seen.page.get_attribute(name, "aria-invalid") == "true"
    seen.page.click("#another")
    seen.wait("explorer.state.number === 1")
    for name in ("#c-energy", "#seed", "#number"):
        assert seen.page.get_attribute(name, "aria-invalid") == "false"


def test_the_way_to_the_controls_keeps_the_state(visit: Callable[..., Visit], server: Any) -> None:
    seen = visit(f"{server.url}#model=calogan-eplus&seed=5")
    seen.page.focus(".skip")
    seen.page.keyboard.press("Enter")
    assert seen.page.evaluate("document.activeElement.id") == "controls"
    seen.page.wait_for_timeout(500)
    assert "model=calogan-eplus" in seen.page.url and "seed=5" in seen.page.url


def test_the_focus_can_be_seen_on_the_picture(visit: Callable[..., Visit], server: Any) -> None:
    """The frame cuts off what lies outside of it."""
    seen = visit(server.url)
    seen.page.focus("#theme")
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.tagName") == "CANVAS"
    offset, width = seen.page.evaluate(
        "(s => [s.outlineOffset, s.outlineWidth])(getComputedStyle(document.activeElement))"
    )
    assert float(offset[:-2]) <= -float(width[:-2]) < 0


def test_the_cell_under_the_pointer_follows_the_shower(
    visit: Callable[..., Visit], server: Any
) -> None:
    seen = visit(f"{server.url}#model=calogan-eplus")
    x, y = seen.page.evaluate(
        "(p => [p.x + p.width / 2, p.y + p.height / 2])(explorer.panes[0].maps.placed[1])"
    )
    seen.page.locator(".maps canvas").hover(position={"x": x, "y": y})
    before = seen.page.inner_text(".under")
    assert before.startswith("middle, x ") and "eV" in before
    seen.page.focus("#another")
    seen.page.keyboard.press("Enter")
    seen.wait("explorer.state.number === 1")
    after = seen.page.inner_text(".under")
    assert after != before and after.split(":")[0] == before.split(":")[0]


def test_a_sweep_is_stopped_by_its_own_button(visit: Callable[..., Visit], server: Any) -> None:
    """That of another condition begins the other sweep, which ends at the trained range."""
    seen = visit(f"{server.url}#model=calogan-eplus")
    energy, x0 = (
        seen.page.get_by_role("button", name=f"Sweep {words}")
        for words in ("incident energy", "impact x")
    )
    energy.click()
    seen.page.wait_for_timeout(200)
    x0.click()
    seen.page.wait_for_timeout(200)
    assert seen.page.evaluate("[explorer.sweeping !== 0, explorer.swept]") == [True, 1]
    seen.page.evaluate("performance.now = () => 1e9")
    seen.wait("explorer.sweeping === 0")
    assert seen.page.evaluate("explorer.state.condition[1] === explorer.model.trained[1][1]")
    x0.click()
    x0.click()
    assert seen.page.evaluate("explorer.sweeping") == 0


def test_contexts_of_webgl_are_given_back(visit: Callable[..., Visit], server: Any) -> None:
    """A browser has room for about sixteen; one more is asked whether it computes in software."""
    seen = visit(f"{server.url}#model=calogan-eplus&beside=geant4")
    seen.page.evaluate(
        "(() => { window.made = [];"
        " const get = HTMLCanvasElement.prototype.getContext;"
        " HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        "  const found = get.call(this, kind, ...rest);"
        "  if (found && kind.startsWith('webgl')) made.push(found); return found; }; })()"
    )
    for name in ("lcd-mlp", "calogan-eplus") * 2:
        seen.page.select_option("#model", name)
        seen.wait(f"explorer.model.name === '{name}' && explorer.shown.length === 2")
    seen.wait("made.filter(context => !context.isContextLost()).length === 2")
    assert seen.page.evaluate("made.length") == 8


def test_out_of_range_is_marked(visit: Callable[..., Visit], server: Any) -> None:
    seen = visit(f"{server.url}#model=calogan-eplus")
    seen.page.fill("#c-energy", "250000")
    seen.page.press("#c-energy", "Enter")
    seen.wait("true")
    assert "Outside the trained range" in seen.page.inner_text("#conditions")
    seen.page.fill("#c-energy", "")
    seen.page.press("#c-energy", "Tab")
    assert "Expected a number" in seen.page.inner_text("#conditions")


def test_two_models_and_the_blind_test(visit: Callable[..., Visit], server: Any) -> None:
    seen = visit(server.url)
    seen.page.select_option("#beside", "flow-matching-photon")
    seen.wait("explorer.shown.length === 2")
    titles = seen.page.locator(".pane h2").all_inner_texts()
    assert [t.strip() for t in titles] == [SITE_MODEL, "flow-matching-photon"]
    seen.page.click("#blind")
    seen.wait("explorer.shown[0].title === 'A'")
    assert "Geant4" not in " ".join(seen.page.locator(".pane h2").all_inner_texts())
    assert "Geant4" not in seen.page.inner_text("#table")
    for rounds in (1, 2):
        seen.page.click("#answer-a")
        seen.wait("explorer.blind.round.answered")
        assert f"of {rounds} right" in seen.page.inner_text("#score")
        titles = seen.page.locator(".pane h2").all_inner_texts()
        assert sum("Geant4" in title for title in titles) == 1
        right = "Geant4" in titles[0]
        assert ("Right." in seen.page.inner_text("#score")) == right
        seen.page.click("#next")
        seen.wait("!explorer.blind.round.answered")
    seen.page.click("#end")
    seen.wait("explorer.blind === null")
    assert seen.page.locator(".pane h2").first.inner_text().strip() == SITE_MODEL


def test_saving(visit: Callable[..., Visit], server: Any, tmp_path: Path) -> None:
    seen = visit(f"{server.url}#model={SITE_MODEL}&c.energy=65536&seed=2&shower=5")
    found = {}
    for button in ("png", "csv", "hdf5"):
        with seen.page.expect_download() as waiting:
            seen.page.click(f"#{button}")
        found[button] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(found[button])
    assert found["png"].read_bytes().startswith(b"\x89PNG") and found["png"].stat().st_size > 20000
    lines = [x for x in found["csv"].read_text().splitlines() if not x.startswith("#")]
    cells = np.array([float(line.split(",")[-1]) for line in lines[1:]])
    showers = read_showers(found["hdf5"])
    assert showers.conditions[0, 0] == 65536
    assert np.allclose(showers.energies[0], cells, rtol=1e-5, atol=1e-3)
    assert np.allclose(seen.energies()[0], cells, rtol=1e-5)


def test_an_average_is_cut_shower_by_shower(visit: Callable[..., Visit], server: Any) -> None:
    """A cell that one shower of ten lights has a mean below the cut, and is part of the mean."""
    seen = visit(f"{server.url}#model={SITE_MODEL}&c.energy=1024&average=10")
    drawn, without = seen.page.evaluate(
        "(() => { const [pane] = explorer.panes, [shown] = explorer.shown;"
        " const count = () => [pane.scene.geometry.instanceCount, pane.mapCanvas.toDataURL()];"
        " const before = count(), energies = shown.energies.map(v => v < 1 ? 0 : v);"
        " pane.draw({...shown, energies}, pane.maps.scale, pane.maps.scale, 0);"
        " return [before, count()]; })()"
    )
    assert drawn[0] > without[0] and drawn[1] != without[1]
    kept = np.where(seen.energies() < 1, 0, seen.energies()).mean(axis=0)
    shown = seen.page.evaluate("Array.from(explorer.shown[0].energies)")
    assert np.allclose(shown, kept, rtol=1e-5)


@pytest.mark.parametrize("width", [1400, 1300, 390])
def test_every_layer_has_its_total(visit: Callable[..., Visit], server: Any, width: int) -> None:
    seen = visit(server.url, viewport={"width": width, "height": 900})
    totals = seen.page.evaluate("explorer.panes[0].maps.placed.map(p => p.total)")
    assert len(totals) == 5 and all("eV" in total for total in totals)


def test_the_band_names_the_ranges_of_all_conditions(
    visit: Callable[..., Visit], server: Any
) -> None:
    words = visit(f"{server.url}#model=calogan-eplus").page.inner_text("#band")
    for name in explorer_labels("calogan"):
        assert f", {name} " in words, words


def explorer_labels(detector: str) -> list[str]:
    """The conditions of a detector beside the energy, as the page calls them."""
    conditions = caloforge.load_geometry(detector).conditions
    return [c.label or c.name for c in conditions if c.role not in ("energy", "particle")]


def test_layers_by_the_dozen(visit: Callable[..., Visit], server: Any) -> None:
    seen = visit(f"{server.url}#model=lcd-mlp")
    assert seen.page.is_visible("#layer")
    seen.page.locator("#layer").fill("30")
    seen.wait("explorer.state.layer === 30")
    assert "HCAL 5" in seen.page.inner_text("#layer-name")
    seen.page.get_by_text("pi0", exact=True).click()
    seen.wait("explorer.state.condition[0] === 1")


def test_colours_reach_to_the_largest_sum(visit: Callable[..., Visit], server: Any) -> None:
    """Of layers that are summed; in three dimensions to the largest cell."""
    seen = visit(f"{server.url}#model=lcd-mlp")
    sums, maps, cells, scene = seen.page.evaluate(
        "(({maps, scene}, shown) => [Math.max(...maps.placed.flatMap(p => [...p.values])),"
        " maps.scale.high, Math.max(...shown.energies), scene.drawn.scale.high])"
        "(explorer.panes[0], explorer.shown[0])"
    )
    assert sums > 2 * cells
    assert maps == pytest.approx(sums) and scene == pytest.approx(cells)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_a_narrow_page_in_both_colours(
    visit: Callable[..., Visit], server: Any, scheme: str
) -> None:
    size = {"width": 390, "height": 800}
    seen = visit(server.url, viewport=size, color_scheme=scheme, reduced_motion="reduce")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.page.evaluate("document.documentElement.dataset.theme") == scheme
    colours = json.loads(seen.page.evaluate(CONTRASTS))
    assert min(colours.values()) >= 4.5, colours


# Contrast (WCAG 2) of the colours of text on the page's and the cards' ground.
CONTRASTS = """
(() => {
  const style = getComputedStyle(document.documentElement);
  const light = name => {
    const hex = style.getPropertyValue(name).trim().slice(1);
    const part = k => parseInt(hex.slice(2 * k, 2 * k + 2), 16) / 255;
    const line = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * line(part(0)) + 0.7152 * line(part(1)) + 0.0722 * line(part(2));
  };
  const found = {};
  const compare = (a, b) => {
    const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
    found[a + b] = (high + 0.05) / (low + 0.05);
  };
  for (const ground of ["--page", "--card"])
    for (const ink of ["--text", "--quiet", "--warn", "--one", "--two"]) compare(ink, ground);
  compare("--on-accent", "--accent");
  return JSON.stringify(found);
})()
"""


def test_without_webgl(chromium: Any, server: Any) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.add_init_script(
        "const get = HTMLCanvasElement.prototype.getContext;"
        "HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {"
        "  return kind.startsWith('webgl') ? null : get.call(this, kind, ...rest); };"
    )
    page.goto(server.url)
    page.wait_for_selector(".scene .none", timeout=60_000)
    assert "does not offer WebGL" in page.inner_text(".scene .none")
    assert "response" in page.inner_text("#table")
    context.close()


def test_a_server_that_was_stopped(chromium: Any) -> None:
    running = ExplorerServer(load_explored([SITE_MODEL]))
    context = chromium.new_context()
    seen = Visit(context.new_page(), running.url)
    running.close()
    seen.page.click("#another")
    seen.page.wait_for_selector("#message:not([hidden])", timeout=60_000)
    assert "does not answer" in seen.page.inner_text("#message")
    context.close()


def test_the_page_is_that_of_its_sources(tmp_path: Path) -> None:
    """What `make web` builds is what is committed; it needs node and the packages of npm."""
    web = Path(__file__).parents[1] / "web"
    node = shutil.which("node")
    if node is None or not (web / "node_modules" / "esbuild").is_dir():
        pytest.skip("needs node and the packages of `npm ci` in the folder web")
    subprocess.run([node, "build.mjs", str(tmp_path / "built")], cwd=web, check=True)
    for name in (*FILES, "build.json"):
        committed = PACKAGE / "explore" / "static" / name
        assert (tmp_path / "built" / name).read_bytes() == committed.read_bytes(), name
