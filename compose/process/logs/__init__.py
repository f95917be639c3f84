"""The logs of a process: put together, connected late, identified, and found where orphaned."""
