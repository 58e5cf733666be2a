"""TFX Trainer's `run_fn` and what it needs: input data, model, warm start, fitting, export. No TFX, no lineage."""
