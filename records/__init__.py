"""A split's examples in memory, without Beam: serialized records, and Arrow record batches. Nothing is written here."""
