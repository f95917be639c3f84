"""Options that several commands have, so that they read and mean the same everywhere."""
