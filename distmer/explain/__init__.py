"""Where a model looks: maps of the face for the clips that it answers for, beside those of a model that has
learned nothing.

It can be called: ``distmer.explain`` is a function of the Python API, too.
"""
