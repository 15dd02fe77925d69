from __future__ import annotations

import logging
import time
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from detection.runtime.operations.redaction import MASK, RedactedFormatter, Redaction

# what a password may hold: anything that is seen, and no space
passwords = st.text(st.characters(exclude_categories=("Z", "C"), exclude_characters="*"), min_size=4, max_size=20)
plain = st.text("abcdefghijklmnop ,.;:()'", max_size=20)


@given(passwords, passwords, plain, plain, st.sampled_from(["rtsp", "http", "https", "mqtts", "rtmp"]))
def test_no_password_of_a_url_is_left(user: str, password: str, before: str, after: str, scheme: str) -> None:
    assume(password not in f"{before} {scheme}://@camera.local:8554/front {after} {MASK}")
    text = f"{before} {scheme}://{user}:{password}@camera.local:8554/front {after}"
    clean = Redaction()(text)
    assert password not in clean
    if not set("?#") & set(user + password):
        assert "camera.local:8554/front" in clean  # which camera it is about may be known


@given(passwords, plain, st.sampled_from(["token", "password", "access_token", "apiKey", "X-Secret", "user-pw"]))
def test_no_token_of_a_query_or_a_setting_is_left(secret: str, after: str, name: str) -> None:
    assume(not set(secret) & set("'\"&,;#?=:") and secret not in f"http://host/path {name} ?:= {after} {MASK}")
    query, setting = f"http://host/path?a=1&{name}={secret} {after}", f"{name}={secret} {after}"
    for text in (query, setting, f'"{name}": "{secret}"'):
        assert secret not in Redaction()(text)


@given(passwords, plain, plain)
def test_a_known_secret_is_found_anywhere(secret: str, before: str, after: str) -> None:
    assume(secret not in f"{before} in the middle of {after} {MASK} x")
    clean = Redaction([secret])
    assert secret not in clean(f"{before}{secret}{after}")
    in_a_url = quote(secret, safe="")
    assert in_a_url not in clean(f"{before} {in_a_url} x{after}")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("rtsp://farm:s3cret@10.0.0.5/front: no video", f"rtsp://{MASK}@10.0.0.5/front: no video"),
        ("rtsp://farm:p@ss/w0rd@cam/front", f"rtsp://{MASK}@cam/front"),
        ("rtsp://farm:p@ss/w?rd@cam/front", f"rtsp://{MASK}"),
        ("http://cam/live?mail=a@b.org&token=x", f"http://cam/live?{MASK}"),
        ("farm:s3cret@10.0.0.5/front is no video", f"{MASK}@10.0.0.5/front is no video"),
        ("rtsp://cam:554/user=farm_password=s3_cret_channel=1_stream=0.sdp: gone",
         f"rtsp://cam:554/{MASK}_channel=1_stream=0.sdp: gone"),
        ("rtsp://cam/0/farm:s3cret/main", f"rtsp://cam/0/{MASK}/main"),
        ("http://cam/live?token=abc#x gone", f"http://cam/live?{MASK} gone"),
        ("Authorization: Bearer eyJhbGciOi.J9", f"Authorization: Bearer {MASK}"),
        ("mqtt password=hunter2, trying again", f"mqtt password={MASK}, trying again"),
        ("rtspsrc location=rtsp://c/x user-pw=geheim !", f"rtspsrc location=rtsp://c/x user-pw={MASK} !"),
        ("12 found, 3 ms old; see http://cam/live (200)", "12 found, 3 ms old; see http://cam/live (200)"),
        ("nothing to hide: a@b.org", "nothing to hide: a@b.org"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_is_left_can_still_be_read(text: str, clean: str) -> None:
    assert Redaction()(text) == clean


@pytest.mark.parametrize("text", ["x", "token", "http://", "a@", "password=", "://", "bearer ", "token "])
def test_long_texts_take_time_in_proportion(text: str) -> None:
    def seconds(repeats: int) -> float:
        started = time.perf_counter()
        Redaction()(text * repeats)
        return time.perf_counter() - started

    assert min(seconds(40_000) for _ in range(3)) < 100 * max(min(seconds(4_000) for _ in range(3)), 1e-3)


def test_short_secrets_do_not_blacken_words() -> None:
    assert Redaction(["", "a", "abc"])("abc is a word") == "abc is a word"
    assert Redaction(["word", "words"])("words") == MASK


def test_a_handler_with_the_formatter_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(RedactedFormatter(Redaction(["hunter2"])))
    logger = logging.getLogger("detection.runtime.test_redaction")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        try:
            raise ConnectionError("cannot reach rtsp://farm:s3cret@cam/front as hunter2")
        except ConnectionError:
            logger.exception("%s failed", "rtsp://farm:s3cret@cam/front")
        logger.warning("wrong arguments hunter2 %d %s", "x")
    finally:
        logger.removeHandler(handler)
    shown = capsys.readouterr().err
    assert "s3cret" not in shown and "hunter2" not in shown
    assert "ConnectionError" in shown and "cam/front failed" in shown and "wrong arguments" in shown
