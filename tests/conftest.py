"""Makes package and scripts importable, keeps numerical libraries on one thread, runs Chromium."""

import os
import shutil
import sys
import warnings
from pathlib import Path

import pytest

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests" / "data"
PARITY = DATA / "parity"  # made with the published program
sys.path.insert(0, str(ROOT))
# For programs that tests start, in whatever folder.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))

SOFTWARE_WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium, driven by Playwright; one for all tests, as it takes long to start."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        reason = "pages are not tested in a browser; to test them: apt-get install chromium"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        words = ["--no-sandbox", *SOFTWARE_WEBGL]
        browser = playwright.chromium.launch(executable_path=program, args=words)
        yield browser
        browser.close()


@pytest.fixture
def page():
    """An open page of the shapes of a session."""
    from loopdraw.view.browser.page import open_page

    page = open_page()
    yield page
    page.close()
