"""The reviewed schema of the flights example, `schema.pbtxt`. No code."""
