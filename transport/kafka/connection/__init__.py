"""aiokafka's clients: make them for a log's settings, secure them, lend them, close them."""
