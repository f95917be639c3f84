"""The parts of a batch: size, events, contents, the record at fault, metrics and log lines."""
