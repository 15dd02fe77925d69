"""`PrometheusOutput`: a `/metrics` page that a Prometheus server reads."""

from __future__ import annotations

import errno
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from detection import __version__
from detection.runtime.dashboard.address import is_loopback, names_this_machine
from detection.runtime.errors import OutputError
from detection.runtime.events import CameraStatus, Event
from detection.runtime.outputs.contract import Output, Record
from detection.runtime.outputs.kind import NETWORK, Flag, OutputContext, OutputKind, Package
from detection.runtime.settings import Port, Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

    from detection.runtime.cameras.source import Source
    from detection.runtime.detections import Detections, Frame

_log = logging.getLogger(__name__)

BUCKETS_S = (
    *(0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0),
)
"""Upper ends of the histograms' buckets: at most half as large again as the one below, up to 0.3 s."""

_REQUEST_TIMEOUT_S = 5.0
_MAX_CLIENTS = 64
_CLOSE_S = 0.8


class PrometheusOutput(Output):
    """Counts what passes and shows it over HTTP, in Prometheus' text format, on every path.

    Names and labels stand in `docs/robot/outputs_network.md`. There is no password: everybody who reaches the
    port can read the numbers. On loopback a request must name this machine as its host, as for the dashboard.

    Args:
        port: to listen at; 0 takes a free one.
        host: the address of this machine to listen at; by default other machines cannot reach it.
        model: file name of the model, for `swath_build_info`; an event that a model was swapped changes it.
        sources: whose counts of dropped and unreadable images are shown.
        outputs_dropped: gives, the number of records that each output has dropped; called from other threads.

    Attributes:
        port: where it listens.

    Raises:
        OutputError: the port is taken or forbidden, the host is not this machine, or
            prometheus-client is missing.

    """

    needs_image = False

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        model: str = "",
        sources: Sequence[Source] = (),
        outputs_dropped: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
        except ImportError:
            raise OutputError('the metrics page needs prometheus-client: pip install "swath[stream]"') from None
        registry = CollectorRegistry()
        of_class, of_stage, of_status = ("camera", "class"), ("camera", "stage"), ("camera", "status")

        def histogram(name: str, text: str, labels: tuple[str, ...]) -> Histogram:
            return Histogram(name, text, labels, buckets=BUCKETS_S, registry=registry)

        self._frames = Counter("swath_frames", "Images detected on", ("camera",), registry=registry)
        self._found = Counter("swath_detections", "Boxes reported", of_class, registry=registry)
        self._plants = Gauge("swath_plants_counted", "Plants counted so far, each once", of_class, registry=registry)
        self._age = histogram("swath_frame_age_seconds", "Age of the image when its record was made", ("camera",))
        self._stage = histogram("swath_stage_seconds", "Duration of each stage", of_stage)
        self._status = Gauge(
            "swath_camera_status",
            "1 for the current status of the camera, 0 for others",
            of_status,
            registry=registry,
        )
        self._events = Counter("swath_events", "Events", ("kind", "status"), registry=registry)
        self._build = Gauge(
            "swath_build_info", "Always 1; version and model in the labels", ("version", "model"), registry=registry
        )
        self._last_ns: dict[str, int] = {}
        self._sources = sources
        self._outputs_dropped = outputs_dropped
        self._show_model(model)
        registry.register(_AtScrape(self._read))
        ProcessCollector(registry=registry)  # memory and descriptors: flat all season, or not
        self._server = _serve(host, port, registry)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, detections: Detections, record: Record) -> None:
        """Count one frame."""
        camera = record["camera"]
        self._frames.labels(camera).inc()
        self._age.labels(camera).observe(record["age_ms"] / 1e3)
        for stage, ms in record["latency_ms"].items():
            self._stage.labels(camera, stage).observe(ms / 1e3)
        for found in record["detections"]:
            self._found.labels(camera, found["class"]).inc()
        for name, count in (record["counted"] or {}).items():
            self._plants.labels(camera, name).set(count)
        self._last_ns[camera] = record["captured_ns"]

    def event(self, event: Event) -> None:
        """Count an event, and keep how cameras are and which model runs."""
        self._events.labels(event.kind, event.status).inc()
        if event.kind == "camera" and event.status in tuple(CameraStatus):
            for status in CameraStatus:
                self._status.labels(event.subject, status.value).set(status == event.status)
        elif event.kind == "model" and event.status == "swapped":
            self._show_model(event.subject)

    def close(self) -> None:
        """Free the port; safe to call twice."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(_CLOSE_S)
        self._server.server_close()

    def _show_model(self, model: str) -> None:
        self._build.clear()
        self._build.labels(__version__, Path(model).name).set(1)

    def _read(self) -> Iterator[Metric]:
        """Values that are read at each scrape."""
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        age = GaugeMetricFamily("swath_last_frame_age_seconds", "Time since the newest image", labels=["camera"])
        now_ns = time.monotonic_ns()
        for camera, captured_ns in tuple(self._last_ns.items()):
            age.add_metric([camera], (now_ns - captured_ns) / 1e9)
        dropped = CounterMetricFamily("swath_frames_dropped", "Images replaced by a newer one", labels=["camera"])
        unreadable = CounterMetricFamily(
            "swath_frames_unreadable", "Images that could not be decoded", labels=["camera"]
        )
        for source in self._sources:
            dropped.add_metric([source.camera], source.dropped)
            unreadable.add_metric([source.camera], source.unreadable)
        lost = CounterMetricFamily("swath_output_dropped", "Records that an output dropped", labels=["output"])
        for output, count in self._outputs_dropped().items():
            lost.add_metric([output], count)
        yield from (age, dropped, unreadable, lost)


class _AtScrape:
    """A collector out of a function."""

    def __init__(self, read: Callable[[], Iterator[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        return self._read()


def _shut(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Server(ThreadingHTTPServer):
    """One short-lived thread per request; clients that disconnect early are not logged.

    A client has `_REQUEST_TIMEOUT_S` for all; the oldest makes room where there are too many.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= _MAX_CLIENTS:
                _shut(next(iter(self._open)))
            self._open[request] = time.monotonic() + _REQUEST_TIMEOUT_S
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        with self._lock:
            for request, until_s in self._open.items():
                if time.monotonic() > until_s:
                    _shut(request)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def server_bind(self) -> None:
        # http.server would look up its own name, and wait where there is no name service.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            _log.exception("the metrics page failed")


def _serve(host: str, port: int, registry: CollectorRegistry) -> _Server:
    # prometheus_client's start_http_server keeps a thread for each half-open connection.
    from prometheus_client.exposition import MetricsHandler

    class Handler(MetricsHandler):
        timeout = _REQUEST_TIMEOUT_S
        only_here = False

        def do_GET(self) -> None:
            if self.only_here and not names_this_machine(self.headers.get("Host", "")):
                self.send_error(403, "ask for it as http://localhost")
                return
            super().do_GET()

    Handler.registry = registry
    where = f"the metrics page cannot be at {host} port {port}"
    try:
        address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError):
        raise OutputError(f"{where}: there is no such address") from None

    class Server(_Server):
        address_family = address[0]

    try:
        server = Server((str(address[4][0]), port), Handler)
        Handler.only_here = is_loopback(server.socket)
        return server
    except OverflowError:
        raise OutputError(f"{where}: ports go from 0 to 65535") from None
    except OSError as error:
        reason = "is another program there?" if error.errno == errno.EADDRINUSE else error.strerror
        raise OutputError(f"{where}: {reason}") from None


class MetricsSettings(Settings):
    """A page for Prometheus. "9464" and "0.0.0.0:9464" are short for its port and host."""

    port: Port = Field(description="of http://HOST:PORT/metrics")
    host: str = Field("127.0.0.1", description="address to listen on")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: object) -> object:
        if isinstance(given, int) and not isinstance(given, bool):
            return {"port": given}
        if not isinstance(given, str):
            return given
        host, _, port = given.rpartition(":")
        if not port.isdecimal():
            raise ValueError("must be PORT or HOST:PORT")
        return {"port": int(port), **({"host": host.strip("[]")} if host else {})}


def _open(settings: MetricsSettings, context: OutputContext) -> list[Output]:
    page = PrometheusOutput(
        settings.port,
        host=settings.host,
        model=str(context.model),
        sources=context.sources,
        outputs_dropped=context.dropped,
    )
    return [page]


KIND = OutputKind(
    key="metrics",
    about="a metrics page for Prometheus",
    settings=MetricsSettings,
    opens=_open,
    flags=(Flag("[HOST:]PORT", "Serve metrics for Prometheus."),),
    panel=NETWORK,
    example="{port: 9464}",
    queued=False,
    needs=Package("prometheus_client"),
    port=lambda settings: settings.port,
)
