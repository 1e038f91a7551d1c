"""From the frames of a clip to what a model is given: alignment, optical flow, optical strain, and the store
that keeps them.
"""
