"""The work of each command, one module for each job."""
