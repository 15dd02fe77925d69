"""`check_machine`: what is wrong with a machine, found out without starting it."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from detection.runtime.cameras import kind_of
from detection.runtime.cameras.source import Source
from detection.runtime.cameras.sources import open_source
from detection.runtime.detector import Detector
from detection.runtime.errors import SourceError, SwathError
from detection.runtime.operations.finding import Finding
from detection.runtime.operations.machine import Machine
from detection.runtime.operations.machine_camera import MachineCamera
from detection.runtime.parity.report import parity_fault

_LEAST_FREE_BYTES = 1_000_000_000
_RECORDING_TIMEOUT_S = 10.0


def check_machine(machine: Machine, *, cameras: bool = False) -> Iterator[Finding]:
    """Check everything that a machine refers to, without starting it.

    Args:
        machine: what is to run.
        cameras: open each camera as the machine would, and take an image too; takes seconds.

    Yields:
        A finding for each part, as soon as it is known: model, cameras, packages, ports, files.

    """
    yield _model(machine)
    for camera in machine.cameras:
        found = _camera(camera, opened=cameras)
        if found is not None:
            yield found
    for kind, settings in machine.outputs.chosen:
        subject = f"outputs.{kind.key}"
        if kind.needs is not None:
            fault = "" if _installed(kind.needs.module) else f"needs: {kind.needs.install}"
            yield Finding.of(subject, fault, "its package is installed")
        port = kind.port(settings)
        if port is not None:
            yield _port(port, subject)
    for path in machine.written:
        yield _writable(path)


def _model(machine: Machine) -> Finding:
    path = machine.model.path
    try:
        machine.model.check_signature()
        detector = Detector(path)  # on the CPU, which every file runs on: this may be another machine than the robot
        metadata = detector.metadata
        machine.model.thresholds(metadata.class_names, metadata.score_thresholds)
        detector.warm_up()
    except (SwathError, ValueError) as error:
        return Finding("model", "wrong", str(error))
    fault = "" if machine.model.unverified else parity_fault(path, metadata)
    height, width = metadata.input_size_hw
    well = f"{metadata.preset}, {metadata.precision}, {height} x {width}, finds {', '.join(metadata.class_names)}"
    return Finding.of("model", fault, well)


def _camera(camera: MachineCamera, *, opened: bool) -> Finding | None:
    """One camera; None where there is nothing to say without opening it."""
    subject, kind = f"camera {camera.name}", kind_of(camera.source)
    if missing := kind.missing(camera.source):
        return Finding(subject, "wrong", missing)
    if not opened:
        path = kind.path(camera.source)
        if path is None:
            return None
        return Finding.of(subject, "" if path.exists() else f"{camera.source}: there is no such file", "is there")
    try:
        with open_source(camera) as source:  # a machine's camera holds its transport and timeouts
            return _image(source, camera, subject)
    except SourceError as error:
        return Finding(subject, "wrong", str(error))


def _image(source: Source, camera: MachineCamera, subject: str) -> Finding:
    timeout_s: float = getattr(camera, "open_timeout_s", _RECORDING_TIMEOUT_S)
    deadline_s = time.monotonic() + timeout_s
    while not source.ended and time.monotonic() < deadline_s:
        frame = source.poll(0.1)
        if frame is None:
            continue
        height, width = frame.image.shape[:2]
        try:
            camera.slicer.check_frame((height, width))
        except ValueError as error:
            return Finding(subject, "wrong", str(error))
        return Finding(subject, "ok", f"{width} x {height}")
    return Finding(subject, "wrong", f"no image within {timeout_s:g} s")


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _port(port: int, part: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding(
                part, "wrong", f"port {port} cannot be listened on ({error.strerror}); is the machine running?"
            )
    return Finding(part, "ok", f"port {port} is free")


def _writable(path: Path) -> Finding:
    there = next(p for p in (path, *path.parents) if p.exists())
    if there != path and not there.is_dir():
        return Finding(str(path), "wrong", f"{there.name} is no folder")
    if not os.access(there, os.W_OK):
        return Finding(str(path), "wrong", f"{there} may not be written by this user")
    free_bytes = shutil.disk_usage(there).free
    low = free_bytes < _LEAST_FREE_BYTES
    free = f"{free_bytes / 1e9:.1f} GB free"
    return Finding.of(str(path), f"its disk has only {free}" if low else "", free)
