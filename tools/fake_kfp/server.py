"""The HTTP side of the fake API server: routes, tokens, namespaces, and what goes wrong on purpose."""

import json
import re
import threading
from collections.abc import Callable, Mapping
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tools.fake_kfp.messages import RefusedError, checked
from tools.fake_kfp.state import Document, Fault, Records, State

_ROOT = "/apis/v2beta1"


class FakeKfp:
    """A server on a free port of this machine, for the length of a `with` block.

    Attributes:
        state: What it knows; tests read it, and write `state.steps` or `state.execute`.
        token: What a request must bring; None: nothing.
        namespaces: Namespaces that this user may use in multi-user mode; empty: single-user mode.
        is_old: Whether it only speaks the API of Kubeflow Pipelines 1.
        faults: What happens to the next requests.
        requests: What was asked, as `METHOD path`.
    """

    def __init__(self) -> None:
        self.state = State()
        self.token: str | None = None
        self.namespaces: set[str] = set()
        self.is_old = False
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: "Request") -> tuple[int | None, str]:
        """Return status and body for a request; without a status the connection is cut."""
        with self._lock:
            self.requests.append(f"{request.method} {request.path}")
            fault = self._next_fault(self.requests[-1])
            if fault is None:
                return self._done(request)
            if fault.is_done:
                self._done(request)
            return fault.status, fault.body

    def _next_fault(self, request: str) -> Fault | None:
        for index, fault in enumerate(self.faults):
            if fault.path in request:
                left = [Fault(**{**vars(fault), "times": fault.times - 1})] if fault.times > 1 else []
                self.faults[index : index + 1] = left
                return fault
        return None

    def _done(self, request: "Request") -> tuple[int, str]:
        try:
            if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
                raise RefusedError(401, "Unauthenticated: the token is invalid or expired")
            return 200, json.dumps(self._route(request))
        except RefusedError as error:
            return error.status, _error_body(error)
        except Exception as error:
            # Of a test's own callback, most likely: to be read in its output, not in a thread's.
            return 400, _error_body(error)

    def _route(self, request: "Request") -> Document:
        for method, pattern, serve in _ROUTES:
            found = re.fullmatch(f"{_ROOT}{pattern}", request.path)
            if found and method == request.method and not self.is_old:
                return serve(self, request, *map(unquote, found.groups()))
        raise RefusedError(404, f"Not Found: {request.method} {request.path}")

    def check_namespace(self, namespace: str | None) -> None:
        """Refuse what the real server refuses in multi-user mode; in single-user mode it looks at no namespace."""
        if self.namespaces and not namespace:
            raise RefusedError(400, "An experiment cannot have an empty namespace in multi-user mode")
        if self.namespaces and namespace not in self.namespaces:
            raise RefusedError(403, f"User is not authorized in namespace {namespace}")


class Request:
    """One request, read."""

    def __init__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> None:
        parts = urlsplit(url)
        self.method = method
        self.path = parts.path
        self.query = dict(parse_qsl(parts.query))
        self.headers = {name.lower(): value for name, value in headers.items()}
        self._body = body

    def document(self, kind: str) -> Document:
        """Return the JSON body, checked."""
        document: Document = checked(json.loads(self._body or b"{}"), kind)
        return document

    def uploaded(self) -> str:
        """Return the text of the file in a multipart body."""
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        for part in message_from_bytes(head + self._body).walk():
            if part.get_param("name", header="content-disposition") == "uploadfile":
                payload = part.get_payload(decode=True)
                return payload.decode() if isinstance(payload, bytes) else ""
        raise RefusedError(400, "Failed to read pipeline from file")


def _error_body(error: Exception) -> str:
    words = f"{error}" if isinstance(error, RefusedError) else f"{type(error).__name__}: {error}"
    return json.dumps({"error": words, "code": 13, "message": words, "details": []})


def _handler(fake: FakeKfp) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One packet an answer: a client would keep the second one waiting for 40 ms.
        wbufsize = -1
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = fake.answer(Request(self.command, self.path, dict(self.headers), body))
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - names that http.server looks for

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


def _healthz(fake: FakeKfp, request: Request) -> Document:
    return _checked({"multi_user": bool(fake.namespaces)}, "V2beta1GetHealthzResponse")


def _list_experiments(fake: FakeKfp, request: Request) -> Document:
    fake.check_namespace(request.query.get("namespace"))
    return _listed(fake.state.experiments, request, "experiments", "V2beta1ListExperimentsResponse", "namespace")


def _create_experiment(fake: FakeKfp, request: Request) -> Document:
    document = request.document("V2beta1Experiment")
    fake.check_namespace(document.get("namespace"))
    made = fake.state.add_named(fake.state.experiments, document, namespace=document.get("namespace"))
    return _checked(made, "V2beta1Experiment")


def _list_pipelines(fake: FakeKfp, request: Request) -> Document:
    fake.check_namespace(request.query.get("namespace"))
    return _listed(fake.state.pipelines, request, "pipelines", "V2beta1ListPipelinesResponse", "namespace")


def _create_pipeline(fake: FakeKfp, request: Request) -> Document:
    document = request.document("V2beta1Pipeline")
    fake.check_namespace(document.get("namespace"))
    return _checked(fake.state.add_named(fake.state.pipelines, document), "V2beta1Pipeline")


def _upload_version(fake: FakeKfp, request: Request) -> Document:
    query = request.query
    made = fake.state.add_version(query.get("pipelineid", ""), query.get("name", ""), request.uploaded())
    return _checked(made, "V2beta1PipelineVersion")


def _list_versions(fake: FakeKfp, request: Request, pipeline_id: str) -> Document:
    listed = _listed(
        fake.state.versions,
        request,
        "pipeline_versions",
        "V2beta1ListPipelineVersionsResponse",
        pipeline_id=pipeline_id,
    )
    ready = [v for v in listed["pipeline_versions"] if v["pipeline_version_id"] not in fake.state.half_uploaded]
    return {**listed, "pipeline_versions": ready}


def _get_version(fake: FakeKfp, request: Request, pipeline_id: str, version_id: str) -> Document:
    return _checked(fake.state.versions.get(version_id), "V2beta1PipelineVersion")


def _create_run(fake: FakeKfp, request: Request) -> Document:
    return _checked(fake.state.start_run(request.document("V2beta1Run")), "V2beta1Run")


def _list_runs(fake: FakeKfp, request: Request) -> Document:
    return _listed(fake.state.runs, request, "runs", "V2beta1ListRunsResponse", "experiment_id")


def _get_run(fake: FakeKfp, request: Request, run_id: str) -> Document:
    return _checked(fake.state.look(run_id), "V2beta1Run")


def _terminate_run(fake: FakeKfp, request: Request, run_id: str) -> Document:
    fake.state.terminate(run_id)
    return {}


def _retry_run(fake: FakeKfp, request: Request, run_id: str) -> Document:
    fake.state.retry(run_id)
    return {}


def _create_recurring_run(fake: FakeKfp, request: Request) -> Document:
    document = request.document("V2beta1RecurringRun")
    fake.state.experiments.get(document.get("experiment_id", ""))
    fake.state.spec(document.get("pipeline_version_reference"))
    cron = document.get("trigger", {}).get("cron_schedule", {}).get("cron", "")
    if len(cron.split()) not in (5, 6):
        raise RefusedError(400, f"The Cron schedule is not valid: {cron!r}")
    is_enabled = document.get("mode") == "ENABLE"
    made = fake.state.recurring_runs.add({**document, "status": "ENABLED" if is_enabled else "DISABLED"})
    return _checked(made, "V2beta1RecurringRun")


def _list_recurring_runs(fake: FakeKfp, request: Request) -> Document:
    kind = "V2beta1ListRecurringRunsResponse"
    return _listed(fake.state.recurring_runs, request, "recurringRuns", kind, "experiment_id")


def _delete_recurring_run(fake: FakeKfp, request: Request, recurring_run_id: str) -> Document:
    fake.state.recurring_runs.get(recurring_run_id)
    del fake.state.recurring_runs.by_id[recurring_run_id]
    return {}


def _listed(records: Records, request: Request, key: str, kind: str, *scope: str, **equal: str) -> Document:
    wanted = {name: request.query.get(name) for name in scope}
    page, token = records.page(request.query, **wanted, **equal)
    document = {key: page, "total_size": len(page)} | ({"next_page_token": token} if token else {})
    return _checked(document, kind)


def _checked(document: Document, kind: str) -> Document:
    answer: Document = checked(document, kind, "answer")
    return answer


_ID = "/([^/:]+)"
_ROUTES: tuple[tuple[str, str, Callable[..., Document]], ...] = (
    ("GET", "/healthz", _healthz),
    ("GET", "/experiments", _list_experiments),
    ("POST", "/experiments", _create_experiment),
    ("GET", "/pipelines", _list_pipelines),
    ("POST", "/pipelines", _create_pipeline),
    ("POST", "/pipelines/upload_version", _upload_version),
    ("GET", f"/pipelines{_ID}/versions", _list_versions),
    ("GET", f"/pipelines{_ID}/versions{_ID}", _get_version),
    ("POST", "/runs", _create_run),
    ("GET", "/runs", _list_runs),
    ("GET", f"/runs{_ID}", _get_run),
    ("POST", f"/runs{_ID}:terminate", _terminate_run),
    ("POST", f"/runs{_ID}:retry", _retry_run),
    ("POST", "/recurringruns", _create_recurring_run),
    ("GET", "/recurringruns", _list_recurring_runs),
    ("DELETE", f"/recurringruns{_ID}", _delete_recurring_run),
)
