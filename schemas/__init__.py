"""The vocabulary that siblings share: spans, features, verdicts, artifact types, reviewed schemas. No behaviour."""
