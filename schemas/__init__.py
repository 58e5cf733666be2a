"""The vocabulary that siblings share: spans, manifests, features, verdicts, artifact types, reviewed schemas. No behaviour."""
