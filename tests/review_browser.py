"""The review page in a real Chromium without a window, for tests; needs selenium, chromium, chromedriver.

In CI (CI=true) a missing part is a failure, otherwise the test is skipped.
"""

import hashlib
import os
import shutil
import subprocess
import tarfile
import time

import pytest

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support import expected_conditions
    from selenium.webdriver.support.ui import Select, WebDriverWait
except ImportError:
    webdriver = None

CHROMIUM = shutil.which("chromium")
DRIVER = os.environ.get("SE_CHROMEDRIVER") or shutil.which("chromedriver")
AXE = "axe-core@4.14.1"
AXE_SHA256 = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c"  # of axe.min.js
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


def need(part: bool, reason: str) -> None:
    """Skip the test if a part is not there; fail in CI."""
    if not part and os.environ.get("CI") == "true":
        pytest.fail(reason)
    if not part:
        pytest.skip(reason)


def start(downloads, width=1280):
    need(bool(webdriver and CHROMIUM and DRIVER), "no selenium, chromium or chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.add_argument(f"--window-size={width},900")
    options.add_argument(f"--user-data-dir={downloads / 'profile'}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def axe_script(folder):
    """Return axe-core, which checks a page against WCAG, from its npm package."""
    need(bool(shutil.which("npm")), "no npm, from which axe-core is taken")
    command = ["npm", "pack", AXE, "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"{AXE} cannot be had from npm")
    (archive,) = folder.glob("axe-core-*.tgz")
    with tarfile.open(archive) as files:
        script = files.extractfile("package/axe.min.js").read()
    assert hashlib.sha256(script).hexdigest() == AXE_SHA256
    return script.decode()


class Page:
    """The page in a browser with an empty profile of its own."""

    def __init__(self, home, downloads):
        self.driver, self.home, self.downloads = start(downloads), home, downloads
        self.open()

    def open(self, scan=""):
        self.driver.get("about:blank")
        self.driver.get((self.home / "review/index.html").as_uri() + (f"#{scan}" if scan else ""))

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def texts(self, css):
        return [one.text for one in self.driver.find_elements(By.CSS_SELECTOR, css)]

    def press(self, *keys):
        for key in keys:
            self.find("body").send_keys(key)

    def choose(self, css, value):
        Select(self.find(css)).select_by_value(value)

    def scans(self):
        return self.texts("#scans tbody td:first-child")

    def wait(self, test):
        WebDriverWait(self.driver, 10).until(lambda driver: test())

    def rated(self):
        return self.texts("#rated li")

    def set_rater(self, name):
        self.find("#rater").send_keys(Keys.CONTROL + "a")
        self.find("#rater").send_keys(name, Keys.TAB)

    def give(self, file):
        """Import a file of ratings."""
        self.find("#file").send_keys(str(file))

    def wait_for_question(self):
        return WebDriverWait(self.driver, 10).until(expected_conditions.alert_is_present())

    def export(self):
        rater = self.find("#rater").get_attribute("value")
        target = self.downloads / f"ratings_{rater}.csv"
        target.unlink(missing_ok=True)
        self.find("#export").click()
        self.wait(target.is_file)
        time.sleep(0.1)
        return target
