"""Where models came from and what learned from a span, by ML Metadata alone. What is to be done next: see ledger."""
