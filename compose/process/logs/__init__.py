"""The logs of a process: composed, connected late, identified; orphaned logs found and drained."""
