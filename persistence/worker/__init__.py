"""Read claimed partitions, store batches, isolate records at fault, acknowledge."""
