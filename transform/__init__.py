"""Raw features into model inputs, as a TensorFlow Transform graph built from the config. No training, no files."""
