"""Pure functions on arrays: returns, losses, distributions, schedules, optimizer. No networks, no configs."""
