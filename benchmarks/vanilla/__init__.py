"""What ours is compared with: a pipeline of stock TFX components, written as TFX's own penguin example is.

It does not know of the rest of this repository, but for the features, whose transform graph is the same.
"""
