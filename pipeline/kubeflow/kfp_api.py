"""A connection to the API of Kubeflow Pipelines: every call has a bound, and fails with a sentence.

Not in here: what is asked (`kfp_names`, `kfp_cluster`, `kfp_schedules`). It is the generated client below `kfp.Client`,
which hides the timeouts, asks on its own while it is made, and prints.
"""

import json
import os
import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from core.clock import Clock
from core.errors import ConfigError, PipelineError, UnavailableError
from pipeline.kubeflow.cluster import InvalidRequestError
from pipeline.kubeflow.options import FROM_ENVIRONMENT, KubeflowOptions

# To connect, and between two bytes of an answer: an API that is alive takes seconds, even to compile a package.
TIMEOUT_SECONDS = (10.0, 60.0)
# An API server that is restarted is back within these attempts, with waits of 1, 2, 4 and 8 s between them.
MAX_ATTEMPTS = 5
MAX_QUOTED_CHARACTERS = 300
# The names of kfp.Client, so that what works for it works here.
HOST_VARIABLE = "KF_PIPELINES_ENDPOINT"
UI_VARIABLE = "KF_PIPELINES_UI_ENDPOINT"
TOKEN_FILE_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
TOKEN_FILE = "/var/run/secrets/kubeflow/pipelines/token"
_HOW_TO_REACH = "Check `kubeflow.host`, and the port-forward or the gateway behind it"

Given = ParamSpec("Given")
Made = TypeVar("Made")


class NotFoundError(ConfigError):
    """The API knows nothing of that id or name."""


class RefusedError(ConfigError):
    """The API does not let this user in, or not there."""


class KfpApi:
    """The services of one API server.

    Args:
        options: Where it is, and how to get in.
        clock: What waits between two attempts.
    """

    def __init__(self, options: KubeflowOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock

    @cached_property
    def host(self) -> str:
        """URL of the API.

        Raises:
            ConfigError: nothing says where it is.
        """
        if host := self.options.host or os.environ.get(HOST_VARIABLE, ""):
            return (host if "://" in host else f"https://{host}").rstrip("/")
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            return f"http://ml-pipeline.{self.options.namespace}.svc.cluster.local:8888"
        raise ConfigError(
            f"Nothing says where Kubeflow Pipelines is. Expected `kubeflow.host` in the config, or {HOST_VARIABLE} in "
            "the environment, since this is no pod. Set one, e.g. with --set kubeflow.host=http://localhost:8080."
        )

    @property
    def page(self) -> str:
        """URL of the web page."""
        return os.environ.get(UI_VARIABLE, "").rstrip("/") or self.host

    @cached_property
    def runs(self) -> Any:
        """The service of runs."""
        return self._service("RunServiceApi")

    @cached_property
    def recurring_runs(self) -> Any:
        """The service of recurring runs."""
        return self._service("RecurringRunServiceApi")

    @cached_property
    def experiments(self) -> Any:
        """The service of experiments."""
        return self._service("ExperimentServiceApi")

    @cached_property
    def pipelines(self) -> Any:
        """The service of pipelines and their versions."""
        return self._service("PipelineServiceApi")

    @cached_property
    def uploads(self) -> Any:
        """The service that takes compiled packages."""
        return self._service("PipelineUploadServiceApi")

    @cached_property
    def namespace(self) -> str | None:
        """Namespace to ask in, or None where the server has no users. Asked first of all, it checks the API as well.

        Raises:
            ConfigError: the server is too old, or refuses.
            UnavailableError: it does not answer.
        """
        try:
            health = self.call(self._service("HealthzServiceApi").healthz_service_get_healthz)
        except NotFoundError as error:
            raise ConfigError(
                f"{self.host} does not know the API v2beta1. Expected Kubeflow Pipelines 2.0 or newer. Upgrade it, or "
                "let `kubeflow.host` name the address below which /apis/v2beta1/healthz answers."
            ) from error
        return self.options.namespace if health.multi_user else None

    def again(self, work: Callable[Given, Made], *arguments: Given.args, **named: Given.kwargs) -> Made:
        """Do what may be repeated as a whole, and do it again while the API asks for that.

        Raises:
            UnavailableError: it still does.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(UnavailableError),
            wait=wait_exponential(),
            stop=stop_after_attempt(MAX_ATTEMPTS),
            sleep=self.wait,
            reraise=True,
        )
        return retrying(work, *arguments, **named)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.wait(threading.Event(), seconds)

    def call(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a method of one of the services.

        Raises:
            NotFoundError: the API knows nothing of that id or name.
            RefusedError: it does not let this user in.
            InvalidRequestError: it refuses what is asked.
            ConfigError: what answers is no API.
            UnavailableError: it does not answer, or asks to come again.
        """
        from kfp_server_api.exceptions import ApiException, OpenApiException
        from urllib3.exceptions import HTTPError

        named = {name: value for name, value in named.items() if value is not None}
        try:
            answer = method(*arguments, **named, _request_timeout=TIMEOUT_SECONDS)
            # The generated client makes an object of whatever comes, a login page included.
            json.loads(self._client.last_response.data or "{}")
        except ApiException as error:
            raise self._explained(error.status, error.body or error.reason) from error
        except HTTPError as error:
            raise UnavailableError(
                f"Kubeflow Pipelines at {self.host} does not answer: {_short(error)}. Expected an answer within "
                f"{TIMEOUT_SECONDS[1]:.0f} s. {_HOW_TO_REACH}; a run that was started goes on."
            ) from error
        except (ValueError, TypeError, AttributeError, OpenApiException) as error:
            raise ConfigError(
                f"What answers at {self.host} is not the API of Kubeflow Pipelines: {_short(error)}. Expected JSON by "
                f"its v2beta1 API. {_HOW_TO_REACH}; a login page answers like this where the token is missing."
            ) from error
        return answer

    def _service(self, name: str) -> Any:
        import kfp_server_api

        return getattr(kfp_server_api, name)(self._client)

    @cached_property
    def _client(self) -> Any:
        import kfp_server_api

        configuration = kfp_server_api.Configuration(host=self.host)
        # Trying again is our caller's, who knows what may be repeated; and a redirect leads to a login page.
        configuration.retries = False
        if token := self._token():
            configuration.api_key["authorization"] = token
            configuration.api_key_prefix["authorization"] = "Bearer"
        elif (path := Path(os.environ.get(TOKEN_FILE_VARIABLE, TOKEN_FILE))).is_file():
            from kfp.client import ServiceAccountTokenVolumeCredentials

            # Kubernetes renews the file, and the hook reads it before every call; before the first one by our hand.
            configuration.api_key_prefix["authorization"] = "Bearer"
            configuration.refresh_api_key_hook = ServiceAccountTokenVolumeCredentials(str(path)).refresh_api_key_hook
            configuration.refresh_api_key_hook(configuration)
        return kfp_server_api.ApiClient(configuration)

    def _token(self) -> str | None:
        if not self.options.token:
            return None
        name = self.options.token.removeprefix(FROM_ENVIRONMENT)
        if not (token := os.environ.get(name, "").strip()):
            raise ConfigError(
                f"The token for Kubeflow Pipelines is missing. Expected it in the environment variable {name!r}, which "
                "`kubeflow.token` names. Set it."
            )
        return token

    def _explained(self, status: int | None, body: object) -> PipelineError:
        words = _message(body)
        if status in (401, 403) or (status is not None and 300 <= status < 400):
            token = f"the token in {self.options.token}" if self.options.token else "`kubeflow.token`"
            return RefusedError(
                f"Kubeflow Pipelines at {self.host} refuses this user (HTTP {status}): {words}. Expected a valid token "
                f"with rights in namespace {self.options.namespace!r}. Renew {token}, and check `kubeflow.namespace`."
            )
        if status == 404:
            return NotFoundError(f"Kubeflow Pipelines at {self.host} does not know what was asked for: {words}.")
        if status in (408, 409, 425, 429) or status is None or status >= 500:
            return UnavailableError(
                f"Kubeflow Pipelines at {self.host} could not do it now (HTTP {status}): {words}. Expected success. "
                "Look at the log of its pod `ml-pipeline` if this stays."
            )
        return InvalidRequestError(
            f"Kubeflow Pipelines at {self.host} refuses what was asked (HTTP {status}): {words}. Expected a request "
            "that fits its version and its namespaces. Correct the section `kubeflow` of the config."
        )


def _message(body: object) -> str:
    """Return what an error's body says, without the stack of calls that the server appends."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
    try:
        tree = json.loads(text)
    except ValueError:
        return _short(text)
    said = tree.get("message") or tree.get("error_message") or tree.get("error") if isinstance(tree, dict) else tree
    return _short(said or text)


def _short(text: object) -> str:
    return " ".join(str(text).split())[:MAX_QUOTED_CHARACTERS].rstrip(". ")
