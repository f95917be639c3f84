"""One connection to a server: where that is, commands and replies, errors translated."""
