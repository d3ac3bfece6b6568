"""Time to the first picture of the explorer, and the times of the parts of one frame.

    python benchmarks/explorer.py [URL]

Without a URL the program opens a server of one-step-photons. The browser is Chromium, headless,
with WebGL in software. Each part is repeated, as if the slider of the energy were dragged, and the
shortest time counts, because other work on the machine only ever lengthens it. The first picture
and the rate at which showers follow a dragged slider are the best of three visits.
"""

import shutil
import sys

from playwright.sync_api import sync_playwright

from caloforge.explore import ExplorerServer, load_explored

FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
VISITS = 3

PARTS = """
async () => {
  const shortest = async work => {
    let least = Infinity;
    for (let k = 0; k < 60; k++) {
      explorer.state.condition[0] = 1000 * 1.1 ** k;
      const begin = performance.now();
      await work();
      least = Math.min(least, performance.now() - begin);
    }
    return least;
  };
  // Reading a pixel waits until the picture is there.
  const { renderer, world, camera } = explorer.panes[0].scene;
  const gl = renderer.getContext();
  const picture = () => {
    renderer.render(world, camera);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
  };
  return {
    "one shower made": await shortest(() => explorer.side()),
    "layers, numbers and profiles drawn": await shortest(() => explorer.draw()),
    "three dimensions drawn": await shortest(picture),
  };
}
"""

# Moves the slider in every frame of the browser, as a dragging hand does, and counts showers.
DRAG = """
async () => {
  const slider = document.querySelector("[data-condition=energy]");
  const [before, begin] = [explorer.showers, performance.now()];
  let k = 0;
  while (performance.now() - begin < 4000) {
    slider.value = 500 + 400 * Math.sin(0.05 * k++);
    slider.dispatchEvent(new Event("input"));
    await new Promise(requestAnimationFrame);
  }
  return (1000 * (explorer.showers - before)) / (performance.now() - begin);
}
"""


def measure(url: str) -> None:
    """Print the times of a page."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        firsts, rates, found = [], [], {}
        for _ in range(VISITS):
            page = browser.new_context(viewport={"width": 1300, "height": 900}).new_page()
            page.goto(url)
            while not page.evaluate("window.explorer?.firstPicture"):
                page.wait_for_timeout(50)
            firsts.append(page.evaluate("explorer.firstPicture") / 1e3)
            page.wait_for_timeout(500)
            for part, time in page.evaluate(PARTS).items():
                found[part] = min(time, found.get(part, time))
            rates.append(page.evaluate(DRAG))
            page.context.close()
        browser.close()
    print(f"first picture: {min(firsts):.2f} s")
    for part, time in found.items():
        print(f"{part}: {time:.1f} ms")
    print(f"frames per second from the sum: {1e3 / sum(found.values()):.0f}")
    print(f"showers per second while the slider is dragged: {max(rates):.0f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        with ExplorerServer(load_explored(["one-step-photons"])) as server:
            measure(server.url)
