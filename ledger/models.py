"""`Models`: pushed models, the versions they are known by, and the champion pointer with all its moves."""

from collections.abc import Iterable

from sqlalchemy import select, update

from core.errors import LedgerError
from ledger import tables
from ledger.rows import PipelineRows
from schemas.ledger_records import ChampionMove, ChampionRecord, ModelRecord

# What may change of a model after it was recorded.
_KEPT_BY_HAND = {"is_pinned", "removed_at"}


class Models(PipelineRows):
    """The model part of the ledger."""

    def reserve_version(self) -> int:
        """Return a version that no other call ever got or will get, greater than all before; gaps are normal."""
        columns = tables.pipelines.c
        ours = columns.pipeline == self.pipeline
        with self._writing() as connection:
            connection.execute(update(tables.pipelines).where(ours).values(last_version=columns.last_version + 1))
            return int(connection.execute(select(columns.last_version).where(ours)).scalar_one())

    def record_model(self, model: ModelRecord) -> None:
        """Record a pushed model. Saying the same again is allowed, so that a killed run can repeat it.

        Raises:
            LedgerError: the version was never reserved, or is another model.
        """
        with self._writing() as connection:
            stored = self._model(model.version)
            if stored is None:
                self._check_reserved(model.version)
                self._insert(connection, tables.models, [model.model_dump()])
            elif stored.model_dump(exclude=_KEPT_BY_HAND) != model.model_dump(exclude=_KEPT_BY_HAND):
                raise LedgerError(
                    f"Model version {model.version} is already recorded, made by run {stored.run_id!r}. Expected a "
                    f"version of its own; received run_id={model.run_id!r}. Take it from reserve_version."
                )

    def model(self, version: int) -> ModelRecord:
        """Return a pushed model.

        Raises:
            LedgerError: no such version was recorded.
        """
        model = self._model(version)
        if model is None:
            known = [model.version for model in self.models()]
            expected = f"a version from {known[0]} to {known[-1]}" if known else "a pushed model, but there is none yet"
            raise LedgerError(
                f"Pipeline {self.pipeline!r} has no model version {version}. Expected {expected}; "
                f"received version={version}. Look at `perennial status`."
            )
        return model

    def models(self) -> list[ModelRecord]:
        """Return all pushed models, by version."""
        rows = self._rows(tables.models, order_by=[tables.models.c.version])
        return [ModelRecord.model_validate(row) for row in rows]

    def first_version(self) -> int | None:
        """Return the version of the first model ever pushed, or None."""
        rows = self._rows(tables.models, order_by=[tables.models.c.version], limit=1)
        return int(rows[0]["version"]) if rows else None

    def champion(self) -> ChampionRecord | None:
        """Return the model that serves, or None before the first promotion."""
        pointer = self._rows(tables.pipelines)[0]
        if pointer["champion_version"] is None:
            return None
        model = self.model(pointer["champion_version"])
        return ChampionRecord(**model.model_dump(), moved_at=pointer["moved_at"])

    def promote(
        self,
        expected: int | None,
        version: int,
        *,
        by: str = "cycle",
        reason: str | None = None,
        run_id: str | None = None,
    ) -> bool:
        """Make `version` the champion if `expected` still is: compare and swap, in one statement.

        Args:
            expected: The champion that the decision was made against; None for no champion yet.
            version: A recorded model.
            by: What asks: `cycle`, or a command's name.
            reason: Why, in one sentence.
            run_id: The run that made the decision.

        Returns:
            Whether `version` is the champion now, perhaps since before; False if another one was promoted meanwhile.

        Raises:
            LedgerError: `version` was never recorded, or its files were removed.
        """
        columns, now = tables.pipelines.c, self._clock.now()
        with self._writing() as connection:
            if self.model(version).removed_at is not None:
                raise LedgerError(
                    f"Model version {version} cannot be promoted: its files were removed. Expected a model that is "
                    f"still there; received version={version}. Choose one from `perennial model list`."
                )
            if self._champion_version() == version:
                return True
            is_expected = (columns.pipeline == self.pipeline, columns.champion_version.is_not_distinct_from(expected))
            moved = update(tables.pipelines).where(*is_expected).values(champion_version=version, moved_at=now)
            if connection.execute(moved).rowcount == 0:
                return False
            move = ChampionMove(version=version, previous=expected, by=by, reason=reason, run_id=run_id, at=now)
            self._insert(connection, tables.champion_moves, [move.model_dump()])
            return True

    def champion_moves(self) -> list[ChampionMove]:
        """Return every move of the champion pointer, oldest first."""
        rows = self._rows(tables.champion_moves, order_by=[tables.champion_moves.c.id])
        return [ChampionMove.model_validate(row) for row in rows]

    def pin(self, version: int) -> None:
        """Keep a model whatever its age.

        Raises:
            LedgerError: no such version was recorded.
        """
        self._set_pinned(version, is_pinned=True)

    def unpin(self, version: int) -> None:
        """Let a model grow old as others do.

        Raises:
            LedgerError: no such version was recorded.
        """
        self._set_pinned(version, is_pinned=False)

    def mark_removed(self, versions: Iterable[int]) -> None:
        """Record that the files of these models are, or are about to be, removed: nothing reads them from here on.

        Raises:
            LedgerError: one of them is the champion, is pinned, or was never recorded; nothing has changed then.
        """
        columns = tables.models.c
        with self._writing():
            champion = self._champion_version()
            for version in versions:
                model = self.model(version)
                if model.is_pinned or version == champion:
                    why = "it is pinned" if model.is_pinned else "it is the champion"
                    raise LedgerError(
                        f"Model version {version} cannot be removed: {why}. Expected a model that nothing keeps; "
                        f"received version={version}. Unpin it, or promote another one first."
                    )
                is_there = (columns.version == version, columns.removed_at.is_(None))
                self._update(tables.models, *is_there, removed_at=self._clock.now())

    def _model(self, version: int) -> ModelRecord | None:
        rows = self._rows(tables.models, tables.models.c.version == version)
        return ModelRecord.model_validate(rows[0]) if rows else None

    def _champion_version(self) -> int | None:
        version: int | None = self._rows(tables.pipelines)[0]["champion_version"]
        return version

    def _check_reserved(self, version: int) -> None:
        last_version = self._rows(tables.pipelines)[0]["last_version"]
        if version > last_version:
            raise LedgerError(
                f"Model version {version} was never reserved. Expected at most {last_version}; received "
                f"version={version}. Take it from reserve_version."
            )

    def _set_pinned(self, version: int, *, is_pinned: bool) -> None:
        with self._writing():
            self.model(version)
            self._update(tables.models, tables.models.c.version == version, is_pinned=is_pinned)
