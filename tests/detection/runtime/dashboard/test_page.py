"""The dashboard in a real browser, fed as a stream feeds it."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from detection.runtime.events import CameraStatus, Event

PHONE, DESK = (390, 844), (1200, 900)


def _until(page, true, timeout_s=30.0):
    """Wait until a JavaScript expression is true. (Playwright's own wait needs eval, which the page forbids.)"""
    until = time.monotonic() + timeout_s
    while not page.evaluate(true):
        assert time.monotonic() < until, f"never came true: {true}"
        page.wait_for_timeout(50)


def _pixels(page, camera=0):
    """What a camera's canvas shows, as RGB."""
    png = page.evaluate("(place) => document.querySelectorAll('canvas')[place].toDataURL('image/png')", camera)
    image = cv2.imdecode(np.frombuffer(base64.b64decode(png.partition(",")[2]), np.uint8), cv2.IMREAD_COLOR)
    return image[:, :, ::-1]


def _shown(page, camera=0):
    """Wait until a camera's image is on the screen."""
    _until(
        page, f"(a => a !== undefined && !a.textContent.startsWith('–'))(document.querySelectorAll('.age')[{camera}])"
    )


def test_images_move_with_their_boxes(opened, open_dashboard, drive):
    dashboard = open_dashboard()
    drive(dashboard, left=20.0, right=10.0)
    page = opened(dashboard)
    page.wait_for_selector(".camera >> nth=1")
    for camera in (0, 1):
        _shown(page, camera)
        first = _pixels(page, camera)
        page.wait_for_timeout(1000)
        second = _pixels(page, camera)
        assert (first != second).any(axis=2).mean() > 0.01
        box = np.abs(second.astype(int) - (0x56, 0xB4, 0xE9)).max(axis=2) < 12  # the colour of class 0
        assert box.sum() > 100
        # around the red square, and nowhere else: the chip with the text lies above or below
        red = (second[:, :, 0] > 140) & (second[:, :, 1] < 90) & (second[:, :, 2] < 90)
        assert red.sum() > 100
        assert abs(np.flatnonzero(box.any(axis=0)).min() - np.flatnonzero(red.any(axis=0)).min()) < 15
    assert dashboard.images.encoded > 4


def test_numbers_update(opened, open_dashboard, drive):
    dashboard = open_dashboard()
    driven = drive(dashboard)
    driven.age_s, driven.counted = 0.04, {"weed": 1200}
    page = opened(dashboard)
    _shown(page)
    texts = {
        ".fps": r"/^(1\d|2\d)\.\d fps$/",
        ".found": "/^1 detection$/",
        "#ages dd[data-key=p50]": r"/^[45]\d ms$/",
        "#ages dd[data-key=p99]": r"/^\d+ ms$|s$/",
        "#legend li": "/weed 1,200/",
        "#overall": "/camera live/",
        "#model": "/tiny.onnx/",
    }
    for selector, pattern in texts.items():
        _until(
            page, f"{pattern}.test(document.querySelector({json.dumps(selector)}).innerText.replace(/\\s+/g, ' '))"
        )
    driven.counted = {"weed": 1234}
    _until(page, "document.querySelector('#legend b').textContent === '1,234'")
    bars = "document.querySelectorAll('#histogram .bar').length"
    assert page.evaluate(bars) > 0 and page.evaluate("document.querySelectorAll('#histogram .mark').length") == 3
    driven.age_s = 0.4
    _until(page, "parseFloat(document.querySelector('#ages dd[data-key=max]').textContent) >= 400")


@pytest.mark.serial
def test_age_is_that_of_the_image_on_the_screen(opened, open_dashboard, make_shot):
    dashboard = open_dashboard()
    taken = make_shot(age_s=12.0)
    dashboard.write(*taken)
    page = opened(dashboard)
    _shown(page)
    ages = []
    for _ in range(2):
        ages.append(float(page.locator(".age").text_content().removesuffix(" s old")))
        truly = (time.monotonic_ns() - taken[0].captured_ns) / 1e9
        assert -1.5 < ages[-1] - truly < 0.1  # whole seconds, rounded down
        page.wait_for_timeout(1500)
    assert ages[1] > ages[0]  # nothing came, and it grew


@pytest.mark.serial
def test_loss_is_shown_within_two_seconds_where_nothing_is_said(opened, open_dashboard, drive):
    dashboard = open_dashboard()
    driven = drive(dashboard, left=20.0, right=20.0)
    page = opened(dashboard)
    page.wait_for_selector(".camera >> nth=1")
    waits_s = []
    for _ in range(3):  # the quickest of three: a busy machine may be late, a page that waits longer may not
        _until(page, "[...document.querySelectorAll('.camera')].every(c => c.dataset.state === 'live')")
        page.wait_for_timeout(500)
        driven.silent = {"left"}
        stopped = time.monotonic()
        page.wait_for_selector(".camera[data-state=late] >> nth=0", timeout=20_000)
        waits_s.append(time.monotonic() - stopped)
        lost = page.locator(".camera", has_text="left")
        assert "Last image" in lost.locator(".over").text_content()
        assert page.locator(".camera", has_text="right").get_attribute("data-state") == "live"
        _until(page, "document.querySelector('#overall').textContent === '1 of 2 live'")
        driven.silent = set()
    assert min(waits_s) <= 2.0


def test_loss_is_shown_as_soon_as_it_is_said(opened, open_dashboard, drive):
    dashboard = open_dashboard(cameras=["left", "never"])
    driven = drive(dashboard, left=20.0)
    page = opened(dashboard, PHONE)
    _shown(page)
    assert page.locator(".status").all_text_contents() == ["live", "starting"]
    waits_s = []
    for _ in range(3):
        driven.silent = {"left"}
        page.wait_for_timeout(100)
        said = time.monotonic()
        dashboard.event(Event("camera", "left", CameraStatus.LOST, "no answer; trying again in 4 s"))
        page.wait_for_selector(".camera[data-state=lost]", timeout=20_000)
        waits_s.append(time.monotonic() - said)
        assert "trying again in 4 s" in page.locator(".over").first.text_content()
        assert "lost" in page.locator("#events li").first.text_content()
        driven.silent = set()
        page.wait_for_selector(".camera[data-state=live]", timeout=20_000)
    assert min(waits_s) <= 2.0


def test_thresholds_change_what_is_shown(opened, open_dashboard, drive, controls):
    dashboard = open_dashboard()
    drive(dashboard)  # a score of 200 / 255 = 0.78 against 0.70
    page, other = opened(dashboard), opened(dashboard, PHONE)
    for each in (page, other):
        _shown(each)
        _until(each, "document.querySelector('.found').textContent === '1 detection'")
    for _ in range(2):
        page.click("button[aria-label='Raise the threshold of weed']")
    for each in (page, other):  # the other viewer sees it too, boxes and slider
        _until(each, "document.querySelector('.found').textContent === '0 detections'")
        _until(each, "document.querySelector('#thresholds output').textContent === '0.80'")
    assert controls.score_thresholds == pytest.approx((0.8, 0.9))
    slider = other.locator("input[aria-label='Threshold of weed']")
    slider.focus()
    for _ in range(5):
        slider.press("ArrowLeft")
    _until(page, "document.querySelector('.found').textContent === '1 detection'")
    _until(page, "document.querySelector('#thresholds output').textContent === '0.75'")
    assert controls.score_thresholds == pytest.approx((0.75, 0.9))
    other.click("#reset")
    _until(page, "document.querySelector('#thresholds output').textContent === '0.70'")
    assert controls.score_thresholds == pytest.approx((0.7, 0.9))
    _until(page, "document.querySelectorAll('#events li').length >= 3")


def test_snapshot_downloads_image_boxes_and_numbers(opened, open_dashboard, drive, tmp_path):
    dashboard = open_dashboard()
    drive(dashboard)
    page = opened(dashboard, PHONE)
    _shown(page)
    page.click("button[aria-label='Snapshot of left']")
    _until(
        page,
        "document.querySelector('dialog').open && document.querySelector('#snapshot-image').naturalWidth === 96",
    )
    for kind, ending in (("annotated", "-annotated.jpg"), ("plain", ".jpg"), ("json", ".json")):
        with page.expect_download() as download:
            page.click(f"[data-kind={kind}]")
        assert download.value.suggested_filename.startswith("left-") and download.value.suggested_filename.endswith(
            ending
        )
        download.value.save_as(tmp_path / kind)
    plain, annotated = (cv2.imread(str(tmp_path / kind)) for kind in ("plain", "annotated"))
    assert plain.shape == annotated.shape == (64, 96, 3) and (plain != annotated).any()
    numbers = json.loads((tmp_path / "json").read_text())
    (box,) = [found["box_xyxy"] for found in numbers["detections"]]
    red = np.argwhere(plain[:, :, 2] > 120)
    np.testing.assert_allclose(box, [*red.min(axis=0)[::-1], *red.max(axis=0)[::-1] + 1], atol=3)
    page.click("dialog form button")
    assert page.evaluate("document.querySelector('dialog').open") is False


def test_record_makes_videos_that_play(opened, open_dashboard, drive, tmp_path):
    dashboard = open_dashboard()
    drive(dashboard, left=20.0, right=20.0)
    page = opened(dashboard, PHONE)
    _shown(page)
    assert "Off." in page.locator("#recording").text_content()
    page.click("#record")
    _until(page, "/^Stop 0:0[1-9]/.test(document.querySelector('#record').innerText)")
    assert page.get_attribute("#record", "aria-pressed") == "true"
    assert str(tmp_path / "videos") in page.locator("#recording").text_content()
    page.click("#record")
    _until(page, "document.querySelector('#recording').textContent.startsWith('Saved in')")
    names = page.locator("#files li").all_text_contents()
    assert len(names) == 2
    for name in names:
        capture = cv2.VideoCapture(str(tmp_path / "videos" / name))
        boxes, frames = 0, 0
        while True:
            there, image = capture.read()
            if not there:
                break
            frames += 1
            boxes += bool((np.abs(image.astype(int) - (0xE9, 0xB4, 0x56)).max(axis=2) < 40).any())
        capture.release()
        assert frames >= 5 and boxes == frames


def test_names_from_outside_are_text(opened, open_dashboard, drive, named_controls):
    evil = "<script>window.hacked=1</script><img src=x onerror='window.hacked=2'>"
    controls = named_controls(f"weed{evil}", f"crop{evil}")
    dashboard = open_dashboard(with_controls=controls, cameras=[f"cam{evil}"])
    drive(dashboard, controls, **{f"cam{evil}": 20.0})
    dashboard.event(Event("camera", f"cam{evil}", CameraStatus.STALE, f"why{evil}"))
    dashboard.event(Event(evil, evil, evil, evil))
    page = opened(dashboard)
    _shown(page)
    _until(page, "document.querySelectorAll('#events li').length === 2")
    assert page.locator(".camera .name").text_content() == f"cam{evil}"
    assert page.locator("#thresholds .name").first.text_content() == f"weed{evil}"
    assert page.locator("#legend .name").first.text_content() == f"weed{evil}"
    page.click(".snap")
    _until(page, "document.querySelector('#snapshot-image').naturalWidth > 0")
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.scripts.length") == 1
    assert page.evaluate("document.querySelectorAll('img').length") == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 1200


@pytest.mark.parametrize(
    ("size", "cameras"), [(PHONE, 4), ((320, 600), 3), (DESK, 8), ((1000, 700), 7), ((700, 900), 5)]
)
def test_it_fits_and_can_be_read_and_hit(opened, open_dashboard, make_shot, size, cameras):
    dashboard = open_dashboard()
    for camera in ("left", "a_name_without_a_break" * 6, "rear", "front", "5", "6", "7", "8")[:cameras]:
        dashboard.write(*make_shot(camera, labels=(0,) * 30, counted={"weed": 123456789}))
    dashboard.event(Event("camera", "rear", CameraStatus.LOST, "rtsp_without_a_break" * 9))
    page = opened(dashboard, size)
    _until(page, "document.querySelectorAll('#events li').length > 0")
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        outside = page.evaluate(
            """[...document.querySelectorAll('.camera *')].filter(e => e.checkVisibility()
            && e.getBoundingClientRect().right > e.closest('.camera').getBoundingClientRect().right)
            .map(e => e.outerHTML)"""
        )
        assert outside == []
        small = page.evaluate(
            """[...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && !e.closest('svg')
            && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
            && parseFloat(getComputedStyle(e).fontSize) < 16).map(e => e.outerHTML)"""
        )
        assert small == []
        targets = page.evaluate(
            """[...document.querySelectorAll('button, input, a')].filter(e => e.checkVisibility())
            .map(e => [e.outerHTML, e.getBoundingClientRect()]).filter(([_, r]) => r.height < 48 || r.width < 48)"""
        )
        assert targets == []
        # in words too: buttons, images and charts
        assert page.evaluate(
            """[...document.querySelectorAll('button')].every(b => b.innerText.trim() || b.ariaLabel)
            && [...document.querySelectorAll('canvas, svg[role=img]')].every(e => e.getAttribute('aria-label'))
            && [...document.querySelectorAll('input')].every(i => i.ariaLabel)"""
        )
        page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def _contrast(page, selector):
    """WCAG's ratio between an element's text and what lies behind it."""
    return page.evaluate(
        """(selector) => {
        const number = (c) => c.match(/[\\d.]+/g).map(Number);
        const light = (c) => { const [r, g, b] = number(c).map(v => v / 255)
          .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); 
          return .2126 * r + .7152 * g + .0722 * b; };
        return Math.min(...[...document.querySelectorAll(selector)].filter(e => e.checkVisibility()).map(e => {
          let behind = e;
          while (number(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
          const two = [light(getComputedStyle(e).color), light(getComputedStyle(behind).backgroundColor)].sort();
          return (Math.max(...two) + .05) / (Math.min(...two) + .05);
        })); }""",
        selector,
    )


def test_contrast_is_made_for_the_sun(opened, open_dashboard, make_shot):
    dashboard = open_dashboard(cameras=["never"])
    for camera, status in (("lost", CameraStatus.LOST), ("stale", CameraStatus.STALE), ("ended", CameraStatus.ENDED)):
        dashboard.write(*make_shot(camera))
        dashboard.event(Event("camera", camera, status, "why"))
    page = opened(dashboard)
    assert page.evaluate("document.documentElement.dataset.theme") == "light"  # in the sun, whatever the system's is
    _until(page, "document.querySelectorAll('#events li').length === 3")
    for _ in range(2):
        for selector in ("h2", ".age", ".facts span", "dd", "#events li", ".over", "button:enabled"):
            assert _contrast(page, selector) >= 12, selector
        for selector in (".status", ".small", ".lead", "#overall", "#events b"):
            assert _contrast(page, selector) >= 4.5, selector
        page.click("#theme")


def test_dark_is_remembered(opened, open_dashboard, make_shot):
    page = opened(open_dashboard(), color_scheme="light")
    page.click("#theme")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"


@pytest.mark.parametrize("reduced", ["reduce", "no-preference"])
def test_motion_is_left_out_where_it_is_not_wanted(opened, open_dashboard, reduced):
    page = opened(open_dashboard(), reduced_motion=reduced)
    page.click("#record")
    page.wait_for_selector("#record[aria-pressed=true]")
    moving = page.evaluate("document.getAnimations().length")
    assert moving == (0 if reduced == "reduce" else 1)


def test_a_token_is_needed_from_elsewhere_and_leaves_the_address(opened, open_dashboard, drive, browser):
    dashboard = open_dashboard("0.0.0.0:0")
    drive(dashboard)
    address = f"http://127.0.0.1:{urlsplit(dashboard.url).port}/"
    token = dashboard.url.partition("token=")[2]
    with browser.new_context() as stranger:
        page = stranger.new_page()
        assert page.goto(address).status == 401
        assert "needs its token" in page.locator("h1").text_content() and page.locator("canvas").count() == 0
        page.fill("input", token)
        page.click("button")
        _shown(page)
    page = opened(dashboard, url=f"{address}?token={token}")
    _shown(page)
    assert page.url == address and page.evaluate("document.cookie") == ""
    page.click("#record")  # changing something works with the cookie
    page.wait_for_selector("#record[aria-pressed=true]")
    page.reload()
    _shown(page)


def test_a_machine_that_is_gone_is_said_and_ages_go_on(opened, open_dashboard, drive):
    dashboard = open_dashboard()
    driven = drive(dashboard)
    page = opened(dashboard)
    _shown(page)
    assert not page.locator("#offline").is_visible() and opened.said == []
    driven.stop()
    dashboard.close()
    _until(page, "!document.querySelector('#offline').hidden")
    assert "No answer from the machine" in page.locator("#offline").text_content()
    _until(page, "/[3-9]\\.\\d s old/.test(document.querySelector('.age').textContent)")
    assert page.locator(".camera").get_attribute("data-state") == "late"
    assert all("ERR_CONNECTION_REFUSED" in text or "ERR_" in text for text in opened.said)  # the browser's own words
    opened.said.clear()
    page.context.close()
    opened.said.clear()


def test_a_hidden_page_asks_for_no_images(opened, open_dashboard, drive):
    dashboard = open_dashboard()
    drive(dashboard)
    page = opened(dashboard)
    _shown(page)
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})"
    )  # headless pages are never hidden of themselves
    page.wait_for_timeout(1500)
    before = dashboard.images.encoded
    page.wait_for_timeout(1000)
    assert dashboard.images.encoded == before > 0
