"""The report in a real browser."""

import shutil

import pytest

from tests.detection.conftest import swath


@pytest.fixture
def report(run, rendered, tmp_path, capsys):
    asked = ("--sprayer", "gsd_mm=1", "--crop", "sugar_beet", "--out", tmp_path)
    named = shutil.copytree(run, tmp_path / ("a_name_without_a_break" * 4))
    code, _, _ = swath(capsys, "evaluate", named, rendered, *asked)
    assert code == 0
    return tmp_path / "report.html"


@pytest.fixture
def opened(browser, report):
    """A function that opens the report in a window of a width; the page must not have complained at the end."""
    said, asked_for, pages = [], [], []

    def opening(width):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked_for.append(request.url))
        page.goto(report.as_uri())
        pages.append(page)
        return page

    yield opening
    for page in pages:
        page.close()
    assert said == []
    assert {url for url in asked_for if not url.startswith("data:")} == {report.as_uri()}  # no network


def test_filters_show_what_is_chosen(opened):
    page = opened(1200)
    crops = page.locator("#crops figure")
    total = crops.count()
    assert total > 3 and page.locator("#shown").text_content() == f"{total} shown"
    assert all(image["width"] > 0 for image in page.evaluate(
        "Promise.all([...document.images].map(async i => { await i.decode(); return {width: i.naturalWidth} }))"
    ))  # fmt: skip
    counted = 0
    for kind in ("false_positive", "confusion", "false_negative"):
        page.check(f"input[value={kind}]")
        seen = [crop.get_attribute("data-kind") for crop in crops.all() if crop.is_visible()]
        assert set(seen) <= {kind}
        assert page.locator("#shown").text_content() == (f"{len(seen)} shown" if seen else "none of this kind")
        counted += len(seen)
    assert counted == total
    page.check("input[value=all]")
    page.select_option("select[name=class]", "thistle")
    visible = [crop.text_content() for crop in crops.all() if crop.is_visible()]
    assert 0 < len(visible) < total and all("thistle" in text for text in visible)


def test_the_filters_are_reached_and_worked_by_the_keyboard_alone(opened):
    page = opened(1200)
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "kind":
            break
    assert page.evaluate("document.activeElement.value") == "all"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"  # where one is can be seen
    for wanted in ("false_positive", "confusion", "false_negative"):
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.value") == wanted
    assert {c.get_attribute("data-kind") for c in page.locator("#crops figure").all() if c.is_visible()} == {
        "false_negative"
    }
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.name") == "class"


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_a_phone(opened, width):
    page = opened(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        "[...document.querySelectorAll('p, td, li, figcaption')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= 14
    # every image says in words what it shows
    assert page.evaluate("[...document.images].every(i => i.alt) && [...document.querySelectorAll('svg[role=img]')]"
                         ".every(s => s.getAttribute('aria-label'))")  # fmt: skip
