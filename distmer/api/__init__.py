"""What ``import distmer as dm`` offers to a notebook or a script.

Nothing here changes the process: no signal handler, no backend of matplotlib, no option of malloc.
"""
