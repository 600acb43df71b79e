"""What Prometheus is told."""

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from xclipt.serving.batching import Pass
from xclipt.serving.service import Service

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server, apart from those of any other in the process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "xclipt_requests",
            "Requests by path and status",
            ("path", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "xclipt_request_seconds",
            "Time until the response",
            ("path",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._passes = Histogram(
            "xclipt_pass_seconds",
            "Time of a pass of the tower",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._texts = Histogram(
            "xclipt_pass_texts",
            "Texts that share a pass",
            buckets=_COUNTS,
            registry=self._registry,
        )
        self._shared = Histogram(
            "xclipt_pass_requests",
            "Requests that share a pass",
            buckets=_COUNTS,
            registry=self._registry,
        )

    def watch(self, service: Service) -> None:
        """Tell of what a service holds too."""
        self._registry.register(_Held(service))

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def encoded(self, one: Pass) -> None:
        """Texts were encoded."""
        self._passes.observe(one.seconds)
        self._texts.observe(one.texts)
        self._shared.observe(one.requests)

    def page(self) -> bytes:
        """All of it in Prometheus's format."""
        return generate_latest(self._registry)


class _Held:
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        service = self._service
        waiting = "Texts that wait to be encoded"
        yield GaugeMetricFamily("xclipt_queue_texts", waiting, service.waiting)
        deltas = len(service.languages)
        yield GaugeMetricFamily("xclipt_languages", "Languages with a current delta", deltas)
        pictures = len(service.index.names) if service.index else 0
        yield GaugeMetricFamily("xclipt_pictures", "Pictures that are searched", pictures)
        texts = CounterMetricFamily(
            "xclipt_texts", "Texts by the language of their delta", labels=("language",)
        )
        for language, count in sorted(service.encoded.items()):
            texts.add_metric([language], count)
        yield texts
