"""The command `perennial`: one file a noun, and where failures become sentences. Heavy imports are local."""
