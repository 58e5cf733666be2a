"""The command `perennial`: one file a noun, and the one place where failures become sentences. Nothing heavy is imported here."""
