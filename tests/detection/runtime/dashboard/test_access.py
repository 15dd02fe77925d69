from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from detection.runtime.errors import OutputError

TOKEN = "sun-and-rain-42"


def _host(dashboard) -> str:
    return f"127.0.0.1:{urlsplit(dashboard.url).port}"


def test_on_loopback_nobody_needs_a_token(open_dashboard, request_to):
    dashboard = open_dashboard()
    assert "token" not in dashboard.url
    assert request_to(dashboard, "/api/state")[0] == 200


def test_a_foreign_page_does_not_reach_it_by_a_name_of_its_own(open_dashboard, request_to):
    dashboard = open_dashboard()
    for host in ("evil.example:80", "evil.example", "", "127.0.0.1.evil.example", "[bad"):
        assert request_to(dashboard, "/api/state", headers={"Host": host})[0] in (400, 403)
    for host in ("localhost:9999", "[::1]:80", "127.0.0.1"):  # through a tunnel the port is another
        assert request_to(dashboard, "/api/state", headers={"Host": host})[0] == 200


def test_elsewhere_a_token_is_made_and_needed(open_dashboard, request_to):
    dashboard = open_dashboard("0.0.0.0:0")
    token = urlsplit(dashboard.url).query.removeprefix("token=")
    assert len(token) >= 20
    assert request_to(dashboard, "/style.css")[0] == 200  # holds no secret, and the page that asks needs it
    for path in ("/", "//style.css", "/dashboard.js", "/api/state", "/api/images", "/api/events", "/nothing"):
        assert request_to(dashboard, path)[0] == 401
        assert request_to(dashboard, f"{path}?token={token[:-1]}")[0] == 401
    assert request_to(dashboard, "/api/recording", send={"on": True})[0] == 401
    status, headers, _ = request_to(dashboard, f"/?token={token}")
    assert status == 200
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and token not in cookie
    name_and_value = cookie.partition(";")[0]
    status, headers, _ = request_to(dashboard, "/api/state", headers={"Cookie": name_and_value})
    assert status == 200 and "set-cookie" not in headers
    for wrong in (name_and_value[:-1], name_and_value + "0", f"{name_and_value.partition('=')[0]}=", "a=\xff"):
        assert request_to(dashboard, "/api/state", headers={"Cookie": wrong})[0] == 401


def test_two_dashboards_do_not_share_tokens(open_dashboard):
    assert open_dashboard("0.0.0.0:0").url.partition("=")[2] != open_dashboard("0.0.0.0:0").url.partition("=")[2]


def test_a_token_of_ones_own_counts_on_loopback_too(open_dashboard, request_to):
    dashboard = open_dashboard(token=TOKEN)
    assert dashboard.url.endswith(f"/?token={TOKEN}")
    assert request_to(dashboard, "/api/state")[0] == 401
    assert request_to(dashboard, f"/api/state?token={TOKEN}")[0] == 200
    assert request_to(dashboard, "/api/state?token=%F0%9F%98%80")[0] == 401


@pytest.mark.parametrize(
    ("token", "why"), [("short", "has 5 characters"), ("with a space in", "may contain letters")]
)
def test_a_token_that_is_no_use_is_refused(open_dashboard, token, why):
    with pytest.raises(OutputError, match=why):
        open_dashboard(token=token)


def test_only_its_own_page_may_change_something(open_dashboard, request_to, controls):
    dashboard = open_dashboard()
    send = {"score": {"weed": 0.1}}
    before = controls.score_thresholds
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert request_to(dashboard, "/api/thresholds", send=send, headers=headers)[0] == 403
    # a form can be sent from anywhere, but not as JSON
    assert request_to(dashboard, "/api/thresholds", send=send, headers={"Content-Type": "text/plain"})[0] == 415
    assert request_to(dashboard, "/api/thresholds", headers={"Content-Type": "text/plain"})[0] == 405
    assert controls.score_thresholds == before
    own = {"Origin": f"http://{_host(dashboard)}", "Sec-Fetch-Site": "same-origin"}
    assert request_to(dashboard, "/api/thresholds", send=send, headers=own)[0] == 200
    assert controls.score_thresholds == pytest.approx((0.1, 0.9))


def test_every_answer_keeps_other_pages_out(open_dashboard, request_to):
    dashboard = open_dashboard(token=TOKEN)
    for path in ("/", f"/?token={TOKEN}", f"/api/state?token={TOKEN}", f"/nothing?token={TOKEN}"):
        _, headers, _ = request_to(dashboard, path)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"  # the token is in the first address
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
