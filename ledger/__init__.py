"""Spans and what became of them, runs, pushed models and the champion, in SQL. No provenance graph: that is lineage."""
