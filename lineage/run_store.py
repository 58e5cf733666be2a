"""ML Metadata as one pipeline run needs it: questions about a context are answered from the run's own few rows."""

from collections.abc import Sequence
from typing import Any

from ml_metadata.metadata_store.metadata_store import MetadataStore

from lineage.runs import NODE_CONTEXT, NODE_ID, PIPELINE_RUN_CONTEXT, node_id_of


class RunStore(MetadataStore):
    """A store that names, of the executions of any context, those of one run, and writes on each which node it is of.

    TFX finds what a node reads, and whether it ran, by asking for all executions of the pipeline, of the node and of
    the run, and keeps what is in all three: with each run it reads more. What is in all three is the same if each
    answer names those of the run alone, and then it reads the same however many runs there were. Nor can the store be
    asked for the contexts of an execution: ML Metadata has no index for it and reads the links of all runs.

    Not safe for several threads at once.

    Args:
        config: How ML Metadata reaches the store.
        run_id: Name of the pipeline run; its context may be made later.
    """

    def __init__(self, config: Any, run_id: str) -> None:
        super().__init__(config)
        self._run_id = run_id
        # Read anew after everything that is written.
        self._executions: list[Any] | None = None
        # A context stays what it is, and an execution has its own from the beginning.
        self._known: dict[tuple[str, str], Any] = {}
        self._contexts: dict[int, frozenset[int]] = {}

    def get_executions_by_context(self, context_id: int, *_: Any, **__: Any) -> list[Any]:
        """Return the run's executions that are in a context, oldest first."""
        return [execution for execution in self._run_executions() if context_id in self._contexts_of(execution.id)]

    def get_context_by_type_and_name(self, type_name: str, context_name: str, *_: Any, **__: Any) -> Any:
        """Return a context, or None; one that was found is not looked for again."""
        key = (type_name, context_name)
        if key not in self._known:
            found = super().get_context_by_type_and_name(type_name, context_name)
            if found is None:
                return None
            self._known[key] = found
        return self._known[key]

    def put_execution(
        self, execution: Any, artifact_and_events: Sequence[Any], contexts: Sequence[Any] | None, **named: Any
    ) -> Any:
        """Write an execution as the base class does, with its node's id."""
        self._executions = None
        node_type_id = self.get_context_type(NODE_CONTEXT).id
        for context in contexts or ():
            if context.type_id == node_type_id:
                execution.custom_properties[NODE_ID].string_value = node_id_of(context.name)
        written = super().put_execution(execution, artifact_and_events, contexts, **named)
        self._contexts.setdefault(int(written[0]), frozenset(context.id for context in contexts or ()))
        return written

    def put_executions(self, *arguments: Any, **named: Any) -> Any:
        """Write as the base class does."""
        self._executions = None
        return super().put_executions(*arguments, **named)

    def put_lineage_subgraph(self, *arguments: Any, **named: Any) -> Any:
        """Write as the base class does."""
        self._executions = None
        return super().put_lineage_subgraph(*arguments, **named)

    def _run_executions(self) -> list[Any]:
        context = self.get_context_by_type_and_name(PIPELINE_RUN_CONTEXT, self._run_id)
        if context is None:
            return []
        if self._executions is None:
            found = super().get_executions_by_context(context.id)
            self._executions = sorted(found, key=lambda execution: int(execution.id))
        return self._executions

    def _contexts_of(self, execution_id: int) -> frozenset[int]:
        if execution_id not in self._contexts:  # an earlier attempt's
            contexts = self.get_contexts_by_execution(execution_id)
            self._contexts[execution_id] = frozenset(context.id for context in contexts)
        return self._contexts[execution_id]
