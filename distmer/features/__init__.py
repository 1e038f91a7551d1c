"""From a clip's frames to a model's inputs: alignment, optical flow, optical strain, and their store."""

VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4")  # endings of the files that are read as videos
