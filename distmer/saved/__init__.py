"""A model that is kept: a folder with its weights, its settings and its card, and what it answers for new
clips.

`distmer fit` writes such a folder, `load_model` reads it.
"""
