"""A browser, for the pages that people look at."""

import os
import shutil

import pytest


@pytest.fixture(scope="module")
def playwright():
    return pytest.importorskip("playwright.sync_api", reason="no browser: playwright is missing")


@pytest.fixture(scope="module")
def browser(playwright):
    with playwright.sync_playwright() as p:
        # A browser of the system, else the one that playwright installed.
        path = shutil.which("chromium")
        if path is None and not os.path.exists(p.chromium.executable_path):
            pytest.skip("no browser: playwright install chromium")
        yield p.chromium.launch(executable_path=path, args=["--no-sandbox"])
