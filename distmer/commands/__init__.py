"""What the commands do: the layers put together, one module a command. The command line and `jobs/` call
these functions."""
