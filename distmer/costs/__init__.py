"""What each model costs, counted as one paper counts, and beside it what that paper prints.

`distmer models` alone loads this package. No run, no score and no fold's identity depends on it.
"""
