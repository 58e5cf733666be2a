"""The weather example of docs/your-own-data.md: only its reviewed schema."""
