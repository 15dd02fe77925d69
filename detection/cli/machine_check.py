"""What `swath machine check` and `swath machine unit` do, without their command line."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from detection.runtime.backends.onnx_file import read_metadata
from detection.runtime.cameras import kind_of
from detection.runtime.cameras.source import Source
from detection.runtime.cameras.sources import open_source
from detection.runtime.errors import ModelFileError, SourceError
from detection.runtime.metadata import KEY, parse
from detection.runtime.operations.machine import Machine
from detection.runtime.operations.machine_camera import MachineCamera
from detection.runtime.operations.machine_file import MachineFile, load_machine
from detection.runtime.operations.systemd_unit import unit
from detection.runtime.parity.report import parity_fault

_PACKAGES = {"mqtt": "paho.mqtt", "mcap": "mcap", "metrics": "prometheus_client", "dashboard": "uvicorn"}
_RECORDING_TIMEOUT_S = 10.0
_LEAST_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Finding:
    """What was found of one part of a machine.

    Attributes:
        part: the key it is about.
        fault: what is wrong, in a line; empty where it is well.
        told: what is known of it.

    """

    part: str
    fault: str = ""
    told: str = ""


def machine_check_command(path: Path, *, cameras: bool = False) -> int:
    """Look at everything that a machine's YAML names, without starting it, and print what is wrong.

    Args:
        path: the YAML.
        cameras: open each camera and take an image too; takes seconds.

    Returns:
        0 where all is well, 1 where something is wrong.

    Raises:
        MachineError: the YAML itself cannot be used.

    """
    loaded = load_machine(path)
    findings = list(check(loaded, cameras=cameras))
    table = Table(title=f"{loaded.machine.name} ({path})", title_justify="left")
    for heading in ("part", "", "what is known"):
        table.add_column(heading)
    for finding in findings:
        told = Text(loaded.redaction(finding.fault or finding.told))
        verdict, style = ("WRONG", "red") if finding.fault else ("ok", None)
        table.add_row(Text(finding.part), verdict, told, style=style)
    console = Console()
    console.print(table)
    wrong = sum(bool(finding.fault) for finding in findings)
    looked_at = "" if cameras else "; cameras were not opened (--cameras does)"
    verdict = f"{wrong} of {len(findings)} parts need attention" if wrong else "nothing is wrong"
    console.print(verdict + looked_at, highlight=False)
    return 1 if wrong else 0


def machine_unit_command(path: Path, *, user: str = "swath", watchdog_s: int = 10) -> int:
    """Print the systemd unit of a machine.

    Args:
        path: the YAML; its environment variables need not be set.
        user: under whose name it runs.
        watchdog_s: restart after so many seconds without a sign of life.

    Raises:
        SwathError: the YAML cannot be used, or a path that a unit cannot hold.

    """
    loaded = load_machine(path, fill_in=False)
    print(unit(loaded, command=own_command(), user=user, watchdog_s=watchdog_s), end="")
    return 0


def own_command() -> Sequence[str]:
    """How `swath` is called in this installation: the script beside this Python, or the module."""
    script = Path(sys.executable).with_name("swath")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "swath"]


def check(loaded: MachineFile, *, cameras: bool = False) -> Iterator[Finding]:
    """What is to be said of each part of a machine."""
    machine = loaded.machine
    yield _model(machine)
    for camera in machine.cameras:
        found = _camera(camera, really=cameras)
        if found is not None:
            yield found
    for name, package in _PACKAGES.items():
        if getattr(machine.outputs, name) is not None:
            fault = "" if _installed(package) else 'needs: pip install "swath[stream]"'
            yield Finding(f"outputs.{name}", fault, "its package is here")
    for port, part in _ports(machine):
        yield _port(port, part)
    for path in machine.written:
        yield _writable(path)


def _model(machine: Machine) -> Finding:
    path = machine.model.path
    try:
        metadata = parse(read_metadata(path).get(KEY), str(path))
        machine.model.thresholds(metadata.class_names, metadata.score_thresholds)
    except (ModelFileError, ValueError) as error:
        return Finding("model", str(error))
    fault = "" if machine.model.unproved else parity_fault(path, metadata)
    height, width = metadata.input_size_hw
    told = f"{metadata.preset}, {metadata.precision}, {height} x {width}, finds {', '.join(metadata.class_names)}"
    return Finding("model", fault, told)


def _camera(camera: MachineCamera, *, really: bool) -> Finding | None:
    """One camera; None where there is nothing to say without opening it."""
    part, kind = f"camera {camera.name}", kind_of(camera.source)
    if missing := kind.missing(camera.source):
        return Finding(part, missing)
    if not really:
        path = kind.path(camera.source)
        if path is None:
            return None
        return Finding(part, "" if path.exists() else f"{camera.source}: there is no such file", "is there")
    try:
        with open_source(camera) as source:  # a machine's camera holds its transport and timeouts
            return _image(source, camera, part)
    except SourceError as error:
        return Finding(part, str(error))


def _image(source: Source, camera: MachineCamera, part: str) -> Finding:
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
            return Finding(part, str(error))
        return Finding(part, "", f"{width} x {height}")
    return Finding(part, f"no image within {timeout_s:g} s")


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _ports(machine: Machine) -> Iterator[tuple[int, str]]:
    if machine.outputs.metrics is not None:
        yield machine.outputs.metrics.port, "outputs.metrics"
    if machine.outputs.dashboard is not None:
        port = machine.outputs.dashboard.address.rpartition(":")[2]
        if port.isdecimal():
            yield int(port), "outputs.dashboard"


def _port(port: int, part: str) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return Finding(part, f"port {port} cannot be listened on ({error.strerror}); is the machine running?")
    return Finding(part, "", f"port {port} is free")


def _writable(path: Path) -> Finding:
    there = next(p for p in (path, *path.parents) if p.exists())
    if there != path and not there.is_dir():
        return Finding(str(path), f"{there.name} is no folder")
    if not os.access(there, os.W_OK):
        return Finding(str(path), f"{there} may not be written by this user")
    free_bytes = shutil.disk_usage(there).free
    low = free_bytes < _LEAST_FREE_BYTES
    told = f"{free_bytes / 1e9:.1f} GB free"
    return Finding(str(path), f"its disk has only {told}" if low else "", told)
