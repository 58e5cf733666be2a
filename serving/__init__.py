"""Pushed versions on disk, and predictions from a SavedModel in this process. No server and no router yet."""
