"""A browser of the system, where there is one, and windows of the live server."""

from __future__ import annotations

import shutil

import pytest

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def browser():
    """Chromium, as the system has it; nothing is downloaded."""
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


class Watched:
    """A page of the browser, and what it did that it must not do."""

    def __init__(self, context, address, home):
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(f"error: {error}"))
        self.page.on("dialog", self._dialog)
        self.page.on("console", self._console)
        self.page.on("request", lambda one: self._request(one, home))
        self.page.goto(address)
        self.page.wait_for_selector("#explorer[data-ready=true]", state="attached")

    def _dialog(self, dialog):
        self.errors.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(f"console: {message.text}")

    def _request(self, request, home):
        if not request.url.startswith((home, "data:", "blob:")):
            self.errors.append(f"request: {request.url}")

    def run(self, script, given=None):
        """What a script gives; `explorer` is what the page calls itself."""
        return self.page.evaluate(script, given)


@pytest.fixture
def watched(browser):
    """(address, what requests may begin with, **context) -> Watched; none may have misbehaved."""
    contexts, pages = [], []

    def open_(address, home, **how):
        context = browser.new_context(viewport={"width": 1300, "height": 900}, **how)
        contexts.append(context)
        pages.append(Watched(context, address, home))
        return pages[-1]

    yield open_
    for context in contexts:
        context.close()
    assert [error for page in pages for error in page.errors] == []
