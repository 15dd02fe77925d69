"""Signed model files: accepted with the right key alone, by OpenSSL's own format."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from detection.runtime.errors import ModelFileError, SwathError
from detection.runtime.operations.machine import Machine
from detection.runtime.operations.run import run_machine
from detection.runtime.signing import check_private_key, check_signature, sign, signature_path

serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: E402


def write_keys(folder: Path, name: str, key: Any = None) -> tuple[Path, Path]:
    """A private key and its public one, in PEM."""
    key = key or ed25519.Ed25519PrivateKey.generate()
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    public.write_bytes(key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def model(model_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(model_path, tmp_path / "weeds.onnx"))


def test_only_the_file_that_was_signed_with_this_key_is_accepted(tiny: Any, model: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    _, theirs = write_keys(tmp_path, "theirs")
    with pytest.raises(ModelFileError, match="weeds.onnx: is not signed: there is no weeds.onnx.sig"):
        check_signature(model, public)
    assert sign(model, private) == signature_path(model) and len(signature_path(model).read_bytes()) == 64
    check_signature(model, public)
    with pytest.raises(ModelFileError, match="of another file or another key"):
        check_signature(model, theirs)
    tiny.write(model, tiny.metadata(score_thresholds=(0.1, 0.1)))  # sound, its digest is right
    with pytest.raises(ModelFileError, match="of another file or another key"):
        check_signature(model, public)


def test_a_machine_that_requires_it_does_not_start_without(model: Path, video_path: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    machine = Machine.model_validate(
        {
            "model": {"path": model, "require_signed": public, "threads": 1},
            "cameras": [{"name": "a", "source": str(video_path)}],
        }
    )
    with pytest.raises(ModelFileError, match="is not signed"):
        run_machine(machine, max_frames=1)
    sign(model, private)
    assert run_machine(machine, max_frames=1).summary.frames == 1


def test_what_is_no_key_is_one_line(model: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    other, other_public = write_keys(tmp_path, "curve", ec.generate_private_key(ec.SECP256R1()))
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_bytes(b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")
    for wrong in (public, other, rubbish):
        with pytest.raises(SwathError, match="not an Ed25519 private key in PEM"):
            check_private_key(wrong)
    sign(model, private)
    for wrong in (private, other_public, rubbish):
        with pytest.raises(SwathError, match="not an Ed25519 public key in PEM"):
            check_signature(model, wrong)
    with pytest.raises(SwathError, match="none.pem: the key cannot be read"):
        check_signature(model, tmp_path / "none.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_checks_the_same_signature(model: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "ours")
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in", model, "-sigfile"]
    done = subprocess.run([*command, sign(model, private)], capture_output=True, text=True)
    assert "Verified Successfully" in done.stdout, done.stderr
