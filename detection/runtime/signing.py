"""Signed model files: `model.onnx.sig` beside `model.onnx`, an Ed25519 signature (RFC 8032) of the file's content.

The digest in a model file shows damage; whoever changes a file on purpose can compute it anew. A signature cannot be
made without the private key. OpenSSL makes the same:
`openssl pkeyutl -sign -rawin -inkey private.pem -in model.onnx -out model.onnx.sig`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detection.runtime.errors import ModelFileError, SwathError
from detection.runtime.files import write_whole


def signature_path(model: Path) -> Path:
    """Where a model file's signature lies."""
    return model.with_name(f"{model.name}.sig")


def sign(model: Path, private_key: Path) -> Path:
    """Write the signature of a model file; gives its path.

    Args:
        model: the .onnx.
        private_key: an Ed25519 key in PEM, without a password.

    Raises:
        SwathError: no such key, or the package is missing.

    """
    key = _key(private_key, private=True)
    path = signature_path(model)
    write_whole(path, key.sign(_read(model)))
    return path


def check_private_key(path: Path) -> None:
    """Refuse what `sign` could not sign with; raises as it does."""
    _key(path, private=True)


def check_signature(model: Path, public_key: Path) -> None:
    """Refuse a model file that is not signed with the private key that belongs to `public_key`, Ed25519 in PEM.

    Raises:
        ModelFileError: there is no signature, or it is of another file or key.
        SwathError: no such key, or the package is missing.

    """
    key = _key(public_key, private=False)
    path = signature_path(model)
    if not path.is_file():
        raise ModelFileError(f"{model}: is not signed: there is no {path.name}; write it with: swath export --sign")
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(_read(path), _read(model))
    except InvalidSignature:
        raise ModelFileError(f"{model}: its signature {path.name} is of another file or another key") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read ({error.strerror or error})") from None


def _key(path: Path, *, private: bool) -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise SwathError('signatures need cryptography: pip install "swath[sign]"') from None
    wanted = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    try:
        content = path.read_bytes()
        key = (
            serialization.load_pem_private_key(content, None)
            if private
            else serialization.load_pem_public_key(content)
        )
    except OSError as error:
        raise SwathError(f"{path}: the key cannot be read ({error.strerror or error})") from None
    except Exception:  # its parsers raise ValueError, TypeError (a password) and types of their own
        key = None
    if not isinstance(key, wanted):
        kind = "private" if private else "public"
        raise SwathError(f"{path}: not an Ed25519 {kind} key in PEM, without a password")
    return key
