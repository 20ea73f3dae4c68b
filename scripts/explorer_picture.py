"""Take the picture of the explorer that stands in docs: a run's circuit, and one edge patched.

    python scripts/explorer_picture.py runs/quickstart
    python scripts/explorer_picture.py runs/quickstart --width 400 --scheme dark --whole -o dark.png

The strongest edge into the logits is chosen and corrupted in the clean run of the first pair. Needs
Chromium and the package `playwright`.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

PICTURE = Path(__file__).parents[1] / "docs" / "explorer.png"
_SERVE = "from circuits.cli.app import main; main()"
_CHOOSE = """() => {
  const {contents, store} = explorer;
  const {edges, scores} = explorer.view();
  const into = [...edges].filter((edge) => contents.edgeName(edge).endsWith("->logits"));
  into.sort((a, b) => Math.abs(scores[b]) - Math.abs(scores[a]));
  store.set({selected: {kind: "edge", name: contents.edgeName(into[0])}});
}"""


def main() -> None:
    """Serve the run, open it, click, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="a run folder with a checkpoint")
    parser.add_argument("-o", "--out", type=Path, default=PICTURE)
    parser.add_argument("--width", type=int, default=1300, help="of the window, in pixels")
    parser.add_argument("--height", type=int, default=760)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--whole", action="store_true", help="the page down to its end")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or sys.exit("no chromium")
    with served(options.run) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        size, scheme = {"width": options.width, "height": options.height}, options.scheme
        page = opened(browser.new_page(viewport=size, color_scheme=scheme), url)  # type: ignore[arg-type]
        page.screenshot(path=options.out, full_page=options.whole)
        browser.close()
    sys.stdout.write(f"wrote {options.out}\n")


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of `circuits explore`."""
    command = [sys.executable, "-c", _SERVE, "explore", str(run), "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = (re.match(r"open (http\S+)", line) for line in process.stdout)
        yield next((match[1] for match in found if match), None) or sys.exit("no server")
    finally:
        process.terminate()
        process.wait()


def opened(page: Page, url: str) -> Page:
    """The page with its f measured and an edge patched."""
    page.set_default_timeout(120_000)
    page.goto(url)
    page.wait_for_selector("#explorer[data-ready=true]", state="attached")
    if not page.evaluate("() => Boolean(explorer.session)"):
        sys.exit("no model answers here: the run has no checkpoint")
    page.wait_for_function("() => explorer.session.found?.task")
    page.evaluate(_CHOOSE)
    page.get_by_role("button", name="Corrupt it in the clean run").click()
    page.locator(".details .answer").wait_for()
    page.mouse.move(1, 1)
    page.evaluate("() => { document.activeElement?.blur(); window.scrollTo(0, 0); }")
    page.wait_for_timeout(1500)  # the graph comes to rest
    return page


if __name__ == "__main__":
    main()
