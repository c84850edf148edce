"""Figures for who asks (Prometheus, on loopback unless told otherwise) and for a collector (OTLP).

In: a function that gives the figures of now. Out: an HTTP server's address; periodic exports. The clients are
the official ones, which are extras: `ftdiag[prometheus]`, `ftdiag[opentelemetry]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from ftdiag.errors import UsageError
from ftdiag.watching.figures import KINDS, PROCESS, Figure

LOOPBACK: Final = "127.0.0.1"
EVERY_MS: Final = 15_000
EXPORT_MS: Final = 5_000
"""An export that takes longer is given up."""
Source = Callable[[], Iterable[Figure]]


def address_of(text: str) -> tuple[str, int]:
    """Host and port of `9100`, `0.0.0.0:9100`, `[::1]:9100`; loopback unless said. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise UsageError(f"{text!r} is no port or HOST:PORT", "--prometheus 9464   listens on loopback")
    return host.strip("[]") or LOOPBACK, int(port)


class Prometheus:
    """A server of the text format. Raises UsageError: no client installed, the address is taken."""

    def __init__(self, host: str, port: int, source: Source) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            raise UsageError(
                "--prometheus needs prometheus-client, which is not installed",
                "pip install 'ftdiag[prometheus]'",
            ) from None
        self._source = source
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise UsageError(
                f"{host}:{port} cannot be listened on: {error.strerror}", "--prometheus 0   takes a free port"
            ) from None
        self.port: int = self._server.server_port

    def collect(self) -> Iterator[Any]:
        """Called by the client for each request."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, Any] = {}
        for kind in KINDS:
            family = CounterMetricFamily if kind.counts else GaugeMetricFamily
            families[kind.name] = family(kind.name, kind.words, labels=[*PROCESS, *kind.labels])
        for figure in self._source():
            families[figure.kind.name].add_metric(figure.labels, figure.value)
        yield from families.values()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class OpenTelemetry:
    """Exports by OTLP over HTTP to `endpoint`. Raises UsageError where the SDK is not installed."""

    def __init__(self, endpoint: str, source: Source, every_ms: int = EVERY_MS) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            from opentelemetry.metrics import Observation
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
            from opentelemetry.sdk.resources import Resource
        except ImportError:
            raise UsageError(
                "--otlp needs OpenTelemetry's SDK, which is not installed",
                "pip install 'ftdiag[opentelemetry]'",
            ) from None
        exporter = OTLPMetricExporter(endpoint=endpoint, timeout=EXPORT_MS // 1000)
        reader = PeriodicExportingMetricReader(exporter, every_ms, EXPORT_MS)
        self._provider = MeterProvider([reader], Resource.create({"service.name": "ftdiag"}))
        meter = self._provider.get_meter("ftdiag")

        def observed(name: str) -> Callable[[Any], Iterator[Any]]:
            def observe(_: Any) -> Iterator[Any]:
                for figure in source():
                    if figure.kind.name == name:
                        names = ("process.pid", "process.command_line", *figure.kind.labels)
                        yield Observation(figure.value, dict(zip(names, figure.labels, strict=True)))

            return observe

        for kind in KINDS:
            make = meter.create_observable_counter if kind.counts else meter.create_observable_gauge
            make(kind.name.replace("_", ".", 1), [observed(kind.name)], kind.unit, kind.words)

    def close(self) -> None:
        """A last export, and the end."""
        self._provider.shutdown(timeout_millis=EXPORT_MS)
