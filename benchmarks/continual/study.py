"""All runs of the study, in order: each taken from the result file or made, and told in one line."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.continual import flights, synthetic
from benchmarks.continual.learner import Learner
from benchmarks.continual.online import run_online
from benchmarks.continual.policies import LOGISTIC, NEURAL_POLICIES, ONLINE_POLICIES, Policy
from benchmarks.continual.runs import run_policy
from benchmarks.continual.scores import Result, ResultFile
from benchmarks.continual.streams import FLIGHTS, SYNTHETIC, Stream
from core.digests import digest_of_json
from schemas.features import FeatureSet

QUICK_WEEKS, QUICK_THIN, QUICK_SPANS, QUICK_SPAN_SIZE = 12, 4, 14, 200
QUICK_SYNTHETIC = ("recurring",)
NUM_SPANS, SPAN_SIZE = 40, 1000


@dataclass(frozen=True)
class Run:
    """One line of the study: a policy on a stream with a seed."""

    stream: str
    policy: str
    seed: int


@dataclass
class Study:
    """What to run.

    Attributes:
        quick: Little of everything.
        num_seeds: Seeds, from 0 on.
        streams: Only these; empty: all.
        policies: Only these; empty: all.
    """

    quick: bool
    num_seeds: int
    streams: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    _learners: dict[str, Learner] = field(default_factory=dict)

    def runs(self) -> Iterator[Run]:
        """Yield the runs, all policies of a stream one after another."""
        names = [*(policy.name for policy in NEURAL_POLICIES), *ONLINE_POLICIES]
        for seed in range(self.num_seeds):
            for stream in (FLIGHTS, *(QUICK_SYNTHETIC if self.quick else SYNTHETIC)):
                for name in names:
                    is_wanted = {stream} <= (self.streams or {stream}) and {name} <= (self.policies or {name})
                    if is_wanted and _has_policy(stream, name) and not _is_repetition(stream, name, seed):
                        yield Run(stream, name, seed)

    def run(self, file: ResultFile, *, say: Callable[[str], None]) -> list[Result]:
        """Return all results, those that are not in the file after adding them to it.

        Args:
            file: Where results are kept.
            say: Takes a line about every run.
        """
        known, runs, results = file.read(), list(self.runs()), []
        for index, run in enumerate(runs):
            settings = self._settings(run)
            result = known.get((run.stream, run.policy, run.seed, settings))
            if result is None:
                result = Result(**asdict(run), settings=settings, **self._run(run))
                file.append(result)
            say(
                f"[{index + 1}/{len(runs)}] {run.stream} {run.policy} seed {run.seed}: auc {result.auc:.4f}, "
                f"log loss {result.log_loss:.4f}, trained {result.train_seconds:.1f} s"
            )
            results.append(result)
        return results

    def _run(self, run: Run) -> dict[str, Any]:
        policy = _policy(run.policy)
        stream = _stream(run, self.quick, policy is not None and policy.is_extended)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, transient=True) as progress:
            task = progress.add_task(f"{run.stream} {run.policy}", total=len(stream.scored))

            def advance() -> None:
                progress.advance(task)

            if policy is None:
                return run_online(run.policy, stream, seed=run.seed, on_span=advance)
            return run_policy(policy, stream, self._learner(policy, stream), seed=run.seed, on_span=advance)

    def _learner(self, policy: Policy, stream: Stream) -> Learner:
        """Return the learner for a policy, one for all that need the same trace."""
        options = policy.options(stream.name, stream.training)
        features = _without(stream.feature_set, policy.without)
        traced = options.model_dump(mode="json", include={"model", "clipnorm"})
        key = digest_of_json([features.model_dump(mode="json"), traced])
        if key not in self._learners:
            self._learners[key] = Learner(features, options)
        return self._learners[key]

    def _settings(self, run: Run) -> str:
        policy = _policy(run.policy)
        size = [QUICK_WEEKS, QUICK_THIN, QUICK_SPANS, QUICK_SPAN_SIZE] if self.quick else [NUM_SPANS, SPAN_SIZE]
        if policy is None:
            return digest_of_json(size)
        training = policy.options(run.stream, flights.TRAINING if run.stream == FLIGHTS else synthetic.TRAINING)
        settings = asdict(replace(policy, title="")) | {"replay": policy.replay.model_dump()}
        return digest_of_json([size, settings, training.model_dump(mode="json")])


def _policy(name: str) -> Policy | None:
    return next((policy for policy in NEURAL_POLICIES if policy.name == name), None)


def _has_policy(stream: str, name: str) -> bool:
    """Tell whether a policy is for a stream: extended features are of flights."""
    policy = _policy(name)
    return policy is None or stream == FLIGHTS or not policy.is_extended


def _is_repetition(stream: str, name: str, seed: int) -> bool:
    return name == LOGISTIC and stream == FLIGHTS and seed > 0


def _without(feature_set: FeatureSet, names: tuple[str, ...]) -> FeatureSet:
    left = {name: spec for name, spec in feature_set.features.items() if name not in names}
    return feature_set.model_copy(update={"features": left})


def _stream(run: Run, quick: bool, is_extended: bool) -> Stream:
    if run.stream == FLIGHTS:
        return _flights(quick, is_extended)
    return _synthetic(quick, run.seed)[SYNTHETIC.index(run.stream)]


@cache
def _flights(quick: bool, is_extended: bool) -> Stream:
    if quick:
        return flights.flights_stream(num_weeks=QUICK_WEEKS, extended=is_extended, thin=QUICK_THIN)
    return flights.flights_stream(extended=is_extended)


@cache
def _synthetic(quick: bool, seed: int) -> tuple[Stream, ...]:
    num_spans, span_size = (QUICK_SPANS, QUICK_SPAN_SIZE) if quick else (NUM_SPANS, SPAN_SIZE)
    return synthetic.synthetic_streams(seed, num_spans=num_spans, span_size=span_size)
