"""The continual-learning study: policies of training on a stream, each span scored before anything learns from it."""
