from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from detection.runtime.addresses import readable_url, secrets_of, shown_address, split_address
from detection.runtime.cameras.names import without_secrets
from detection.runtime.cameras.sources import camera_name
from detection.runtime.operations.redaction import MASK, Redaction

FORMS = [
    "rtsp://farm:{}@10.0.0.7:554/stream1",
    "rtsp://farm:{}@10.0.0.7:554/stream1?transport=tcp#x",
    "rtsps://{}@cam.local/live",
    "http://farm:{}@[fe80::1]:80/cam.mjpeg",
    "rtmp://farm:{}@cam/live",
    "farm:{}@192.168.1.1:554/stream",
    "rtsp://10.0.0.7:554/user=farm_password={}_channel=1_stream=0.sdp",
    "rtsp://10.0.0.7:554/user=farm&password={}&channel=1&stream=0.sdp?real_stream",
    "rtsp://10.0.0.7/user%3Dfarm_password%3D{}_channel%3D1",
    "rtsp://10.0.0.7/live;token={};x",
    "rtsp://10.0.0.7/0/farm:{}/main",
    "rtsp://10.0.0.7/password/{}/main",
    "http://10.0.0.7/videostream.cgi?user=farm&pwd={}",
    "http://10.0.0.7/live?user=farm@field&password={}&x=1",
    "http://10.0.0.7/live?user=farm@field.example&password={}",
    "http://farm:pw@10.0.0.7/live?user=farm@field.example#{}",
    "http://10.0.0.7/live?{}",
    "https://cam.example/live#{}",
    "rtsp://farm:pw@10.0.0.7/live#token={}",
]
plain_secrets = st.text("abcXYZ019!$*~_-.", min_size=6, max_size=16).map(lambda text: f"S3{text}")
any_secrets = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=6, max_size=16)


@pytest.mark.parametrize("form", FORMS)
@given(plain_secrets)
def test_a_planted_secret_is_in_no_name_and_no_message(form: str, secret: str) -> None:
    url = form.format(secret)
    assert secret not in without_secrets(url) and secret not in camera_name(url)
    clean = Redaction()(f"cannot open {url}: it says no")
    assert secret not in clean and MASK in clean
    assert secret not in Redaction()(json.dumps({"source": url}))


@pytest.mark.parametrize("form", FORMS[:5])
@given(any_secrets)
def test_any_password_is_kept_out_as_it_is_and_encoded(form: str, secret: str) -> None:
    for written in (secret, quote(secret, safe="")):
        assume(written not in form)
        url = form.format(written)
        assert written not in without_secrets(url)
        assert written not in Redaction()(url)


@given(any_secrets.filter(lambda text: "%" not in text), st.sampled_from(["10.0.0.7:8554", "cam.local", "[::1]:1"]))
def test_a_pasted_password_reaches_the_camera_whole(secret: str, host: str) -> None:
    url = f"rtsp://farm:{quote(secret, safe='')}@{host}/live?x=1"
    parts = split_address(url)
    assert (parts.user, parts.password, parts.host, parts.target) == ("farm", secret, host, "/live?x=1")
    assert secrets_of(url) == {secret, quote(secret, safe="")}
    assert readable_url(url) == url


@pytest.mark.parametrize("password", ["p#ss@1", "a@b", "#", "1#2", "p?x", "w/0", "w/0@r#d", "[x]", "x:y"])
def test_what_people_paste(password: str) -> None:
    parts = split_address(f"http://farm:{password}@127.0.0.1:8080/snap.jpeg")
    assert (parts.user, parts.password, parts.host) == ("farm", password, "127.0.0.1:8080")
    assert split_address(readable_url(f"http://farm:{password}@127.0.0.1:8080/x")) == split_address(
        f"http://farm:{quote(password, safe='')}@127.0.0.1:8080/x"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.7/user=farm_password=S3_cret_channel=1_stream=0.sdp", "10.0.0.7/channel=1_stream=0.sdp"),
        ("rtsp://10.0.0.7/user=farm&password=&channel=2&stream=0.sdp?", "10.0.0.7/channel=2&stream=0.sdp"),
        ("rtsp://10.0.0.7/live?user=a@b&password=S3cret", "10.0.0.7/live"),
        ("rtsp://10.0.0.7/live/ch=1/track=2", "10.0.0.7/live/ch=1/track=2"),
        ("rtsp://10.0.0.7/Streaming/Channels/101", "10.0.0.7/Streaming/Channels/101"),
        ("rtsps://cam:7441/AbCdEfGh1jKlMnOp?enableSrtp", "cam:7441"),
        ("rtsp://farm:pass@host:notaport/path", "host:notaport/path"),
        ("rtsp://admin:pass[123@cam.local:554/stream", "cam.local:554/stream"),
        ("rtsp://farm:p@ss/w?rd@cam/front", ""),
    ],
)  # fmt: skip
def test_what_may_be_shown(url: str, shown: str) -> None:
    assert shown_address(url) == shown


def test_the_secrets_of_an_address() -> None:
    url = "rtsp://10.0.0.7/user=farm_password=S3_cret_channel=1.sdp"
    assert secrets_of(url) == {"S3_cret", "S3_cret_channel=1.sdp"}
    assert secrets_of("http://cam/live?user=farm&pwd=S3cret") == {"S3cret"}
    assert secrets_of("rtsp://cam/live?channel=1") == set()
