"""From a clip's frames to a model's inputs: alignment, optical flow, optical strain, and their store."""
