"""aiokafka, mended: what it lacks, does slowly, or tells badly."""
