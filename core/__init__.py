"""What every folder stands on: errors, atomic files, digests. Standard library only; nothing about machine learning."""
